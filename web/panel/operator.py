"""The operator's room: what goes on across all shops, for who runs the installation. To everybody else it is a 404."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from flask import Blueprint, abort, request
from flask.typing import ResponseReturnValue
from flask_security import current_user

from bot_manager.network import strict
from web.panel import access

_DAY = re.compile("20[0-9]{2}-[0-9]{2}-[0-9]{2}")


def guard(operator: Blueprint) -> None:
    operator.before_request(_only_operators)
    operator.before_request(access.csrf.protect)


def _only_operators() -> ResponseReturnValue | None:
    if not current_user.is_authenticated:
        return access.log_in_first()
    return None if access.is_operator() else abort(404)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the address narrows a list to. query: as it stands there. What can't be read narrows nothing."""

    query: dict[str, Any]

    @property
    def seller(self) -> int | None:
        return strict.number(self.query.get("loja", ""))

    @property
    def day(self) -> date | None:
        try:
            return date.fromisoformat(self.query["dia"]) if _DAY.fullmatch(self.query.get("dia", "")) else None
        except ValueError:
            return None

    @property
    def since(self) -> datetime | None:
        return datetime.combine(self.day, time(), access.HOME_ZONE) if self.day else None

    @property
    def until(self) -> datetime | None:
        return datetime.combine(self.day + timedelta(days=1), time(), access.HOME_ZONE) if self.day else None

    def word(self, name: str) -> str | None:
        return self.query.get(name) or None

    def without(self, *names: str, **others: Any) -> dict[str, Any]:
        return {name: value for name, value in self.query.items() if name not in names} | others


def chosen(*names: str) -> Chosen:
    """names: what else than a shop and a day the list can be narrowed by."""
    given = ((name, request.args.get(name, "").replace("\0", "")[:60]) for name in (*names, "loja", "dia"))
    return Chosen({name: value for name, value in given if value})
