"""A point that is nowhere would be found out only by the long tests."""

from __future__ import annotations

from functools import reduce
from importlib import import_module

import pytest

from tests.crashing.points import POINTS


@pytest.mark.parametrize("name", POINTS)
def test_every_point_is_at_a_function_that_there_is(name: str) -> None:
    module, _, path = POINTS[name].where.partition(":")
    assert callable(reduce(getattr, path.split("."), import_module(module)))
