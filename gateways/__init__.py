"""The money edge. One file per provider; `pkgutil` finds it, nothing else is to be touched."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from gateways.base import Gateway

_NOT_PROVIDERS = {"base", "breaker", "brcode", "fields", "http", "selector"}


@cache
def all_gateways() -> dict[str, Gateway]:
    """Every provider by its kind."""
    names = [m.name for m in pkgutil.iter_modules(__path__) if m.name not in _NOT_PROVIDERS]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in sorted(names)]
    return {module.gateway.kind: module.gateway for module in modules}


def get(kind: str) -> Gateway:
    """The provider of that kind. Raises KeyError."""
    return all_gateways()[kind]
