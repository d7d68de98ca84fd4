"""The one parser for what comes from outside: size, then encoding, then a form or JSON without any liberty.

What the usual parsers let through breaks something later: NaN and 1e400 become floats that no integer can hold; of a
key or a field given twice one silently wins; deep nesting is a RecursionError; a lone surrogate can't be encoded
again; PostgreSQL refuses NUL; `int` takes digits of any script, and underscores.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn
from urllib.parse import parse_qsl

MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
MAX_DIGITS = 64
MAX_VALUES = 50_000  # keys and values, all levels together
MAX_FIELDS = 100
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
_BROKEN_PERCENT = re.compile(b"%(?![0-9A-Fa-f]{2})")
_NUMBER = re.compile("[0-9]{1,18}")


class Unreadable(ValueError):
    """What came in is not what we take; the message says what is wrong and quotes nothing of it."""

    permanent = True


def loads(body: bytes, limit: int = MAX_BYTES) -> Any:
    """What a body of JSON says. Raises Unreadable."""
    value = _parse(_text(body, limit))
    _check(value)
    return value


def form(body: bytes, limit: int = MAX_BYTES) -> dict[str, str]:
    """The fields of a form, or of a query string. Raises Unreadable."""
    text = _text(body, limit)
    if not text:
        return {}
    if _BROKEN_PERCENT.search(body):
        raise Unreadable("has a percent sign that encodes nothing")
    try:
        pairs = parse_qsl(text, strict_parsing=True, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except UnicodeDecodeError:
        raise Unreadable("is not UTF-8") from None
    except ValueError:
        raise Unreadable("is not a form, or has too many fields") from None
    return _fields(pairs)


def _fields(pairs: list[tuple[str, str]]) -> dict[str, str]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unreadable("gives a field twice")
    if any(_UNWRITABLE.search(text) for pair in pairs for text in pair):
        raise Unreadable("has a NUL or half a character")
    return found


def number(text: str) -> int | None:
    """A number of up to 18 digits, in ASCII and nothing else; None for any other text."""
    return int(text) if _NUMBER.fullmatch(text) else None


def is_packed(content_encoding: str | None) -> bool:
    """Whether a Content-Encoding says that the body has to be unpacked, which we never do."""
    return (content_encoding or "").strip().lower() not in ("", "identity")


def _text(body: bytes, limit: int) -> str:
    if len(body) > limit:
        raise Unreadable("is too large")
    if body.startswith(b"\xef\xbb\xbf"):
        raise Unreadable("starts with a byte order mark")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("is not UTF-8") from None


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
        raise Unreadable(f"is not JSON (at character {error.pos})") from None
    except RecursionError:
        raise Unreadable("is nested too deeply") from None


def _int(literal: str) -> int:
    _check_digits(literal)
    return int(literal)


def _float(literal: str) -> float:
    _check_digits(literal)
    number = float(literal)
    if math.isinf(number):
        raise Unreadable("has a number too large")
    return number


def _check_digits(literal: str) -> None:
    if len(literal.lstrip("-")) > MAX_DIGITS:
        raise Unreadable("has a number too long")


def _constant(_name: str) -> NoReturn:
    raise Unreadable("has NaN or Infinity")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unreadable("gives a key twice")
    return found


def _check(value: Any) -> None:
    """Text, depth and number, level by level, so that depth costs no recursion."""
    level, seen = [value], 0
    for _ in range(MAX_DEPTH + 1):
        seen += len(level)
        if seen > MAX_VALUES:
            raise Unreadable("has too many values")
        _check_text(level)
        nested = [node for node in level if isinstance(node, (dict, list))]
        if not nested:
            return
        level = [child for node in nested for child in _children(node)]
    raise Unreadable("is nested too deeply")


def _check_text(level: list[Any]) -> None:
    for node in level:
        if isinstance(node, str) and _UNWRITABLE.search(node):
            raise Unreadable("has a NUL or half a character")


def _children(node: dict[str, Any] | list[Any]) -> list[Any]:
    return [*node.keys(), *node.values()] if isinstance(node, dict) else node
