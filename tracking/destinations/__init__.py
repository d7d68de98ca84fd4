"""The advertising edge. One file per platform; `pkgutil` finds it, nothing else is to be touched."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from tracking.destinations.base import Destination

_NOT_PLATFORMS = {"base"}


@cache
def all_destinations() -> dict[str, Destination]:
    """Every platform by its kind."""
    names = [m.name for m in pkgutil.iter_modules(__path__) if m.name not in _NOT_PLATFORMS]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in sorted(names)]
    return {module.destination.kind: module.destination for module in modules}


def get(kind: str) -> Destination:
    """The platform of that kind. Raises KeyError."""
    return all_destinations()[kind]
