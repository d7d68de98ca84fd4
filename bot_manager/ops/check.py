"""What the doctor found, and how it says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. problem and fix: Portuguese, empty when ok. warning: not ok, yet sales go on."""

    name: str
    ok: bool
    problem: str = ""
    fix: str = ""
    warning: bool = False


def good(name: str) -> Check:
    return Check(name, ok=True)


def bad(name: str, problem: str, fix: str) -> Check:
    return Check(name, ok=False, problem=problem, fix=fix)


def doubtful(name: str, problem: str, fix: str) -> Check:
    return Check(name, ok=False, problem=problem, fix=fix, warning=True)


def something_is_wrong(checks: Iterable[Check]) -> bool:
    return any(not check.ok and not check.warning for check in checks)


def report(checks: list[Check]) -> str:
    """The checks as text, what is wrong last, where it is read first."""
    ordered = sorted(checks, key=lambda check: (not check.ok, not check.ok and not check.warning))
    return "\n".join([*map(_told, ordered), "", _summary(checks)])


def _told(check: Check) -> str:
    if check.ok:
        return f"ok     {check.name}"
    return f"{'aviso' if check.warning else 'ERRO':<6} {check.name}: {check.problem}\n       → {check.fix}"


def _summary(checks: list[Check]) -> str:
    warnings = sum(check.warning for check in checks)
    wrong = sum(not check.ok for check in checks) - warnings
    if not wrong:
        return "Tudo pronto para vender." + (f" Avisos: {warnings}." if warnings else "")
    return f"Problemas: {wrong}. Avisos: {warnings}."
