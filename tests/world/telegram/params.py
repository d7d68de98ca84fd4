"""The parameters of a Bot API call: from the query, a form, a multipart form or JSON, as the real one takes them."""

from __future__ import annotations

import json
from typing import Any

from tests.world.calls import Call
from tests.world.telegram.answers import bad


class Params:
    """Typed looks into one call. Each raises the refusal that a value of the wrong kind gets."""

    def __init__(self, call: Call) -> None:
        is_json = call.headers.get("content-type", "").startswith("application/json")
        if is_json and not isinstance(call.json, dict):
            raise bad("can't parse JSON object")
        self.values: dict[str, Any] = {**call.query, **(call.json if is_json else call.form)}
        self.files = {} if is_json else call.files

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) not in (None, "")

    def text(self, name: str, default: str = "") -> str:
        value = self.values.get(name, default)
        text = value if isinstance(value, str) else json.dumps(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise bad("strings must be encoded in UTF-8") from None
        return text

    def number(self, name: str, default: int | None = None) -> int | None:
        if name not in self:
            return default
        try:
            return int(self.values[name])
        except (TypeError, ValueError):
            raise bad(f"invalid {name} specified") from None

    def required(self, name: str) -> int:
        number = self.number(name)
        if number is None:
            raise bad(f"{name} is not specified")
        return number

    def flag(self, name: str) -> bool:
        return str(self.values.get(name, "")).lower() in ("true", "1", "yes", "t", "y")

    def parsed(self, name: str, kind: type[Any]) -> Any:
        """A JSON value of that kind, or None when there is none; it may come as JSON inside a text."""
        if name not in self:
            return None
        value = self.values[name]
        try:
            value = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            value = None
        if not isinstance(value, kind):
            raise bad(f"can't parse {name.replace('_', ' ')} JSON object")
        return value
