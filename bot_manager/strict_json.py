"""The one door for JSON from outside: what the standard parser lets through and later breaks something is refused.

NaN and 1e400 become floats that no integer can hold; of a key given twice the last silently wins; deep nesting is a
RecursionError; a lone surrogate can't be encoded again; PostgreSQL refuses NUL.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

MAX_DEPTH = 64
MAX_DIGITS = 64
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


class BadJson(ValueError):
    """The body is not JSON that we take; the message says what is wrong and quotes nothing of it."""


def loads(body: bytes) -> Any:
    """What the body says. Its size is the caller's to bound. Raises BadJson."""
    value = _parse(_text(body))
    _check(value)
    return value


def _text(body: bytes) -> str:
    if body.startswith(b"\xef\xbb\xbf"):
        raise BadJson("starts with a byte order mark")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadJson("is not UTF-8") from None


def _parse(text: str) -> Any:
    try:
        return json.loads(
            text,
            parse_int=_int,
            parse_float=_float,
            parse_constant=_constant,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        raise BadJson(f"is not JSON (at character {error.pos})") from None
    except RecursionError:
        raise BadJson("is nested too deeply") from None


def _int(literal: str) -> int:
    _check_digits(literal)
    return int(literal)


def _float(literal: str) -> float:
    _check_digits(literal)
    number = float(literal)
    if math.isinf(number):
        raise BadJson("has a number too large")
    return number


def _check_digits(literal: str) -> None:
    if len(literal.lstrip("-")) > MAX_DIGITS:
        raise BadJson("has a number too long")


def _constant(_name: str) -> NoReturn:
    raise BadJson("has NaN or Infinity")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadJson("gives a key twice")
    return found


def _check(value: Any) -> None:
    """Text and depth, level by level, so that depth costs no recursion."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        _check_text(level)
        nested = [node for node in level if isinstance(node, (dict, list))]
        if not nested:
            return
        level = [child for node in nested for child in _children(node)]
    raise BadJson("is nested too deeply")


def _check_text(level: list[Any]) -> None:
    for node in level:
        if isinstance(node, str) and _UNWRITABLE.search(node):
            raise BadJson("has a NUL or half a character")


def _children(node: dict[str, Any] | list[Any]) -> list[Any]:
    return [*node.keys(), *node.values()] if isinstance(node, dict) else node
