"""The money edge. One file per provider, which ends with `gateway = …`; nothing else is to be touched."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from gateways.base import Gateway


@cache
def all_gateways() -> dict[str, Gateway]:
    """Every provider by its kind."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return {module.gateway.kind: module.gateway for module in modules if hasattr(module, "gateway")}


def get(kind: str) -> Gateway:
    """The provider of that kind. Raises KeyError."""
    return all_gateways()[kind]
