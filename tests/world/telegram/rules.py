"""What Telegram refuses in a message: its length, its keyboard, its photo."""

from __future__ import annotations

import struct
from typing import Any
from urllib.parse import urlsplit

from tests.world.telegram.answers import bad
from tests.world.telegram.html import Entity, parse_html, trimmed, units
from tests.world.telegram.params import Params

TEXT_LIMIT = 4096
CAPTION_LIMIT = 1024
CALLBACK_ANSWER_LIMIT = 200
PHOTO_BYTES = 10 * 1024 * 1024
_BUTTONS, _ROW = 100, 8
_ACTIONS = (
    "url",
    "callback_data",
    "web_app",
    "login_url",
    "switch_inline_query",
    "switch_inline_query_current_chat",
    "switch_inline_query_chosen_chat",
    "copy_text",
    "callback_game",
    "pay",
)


def message_text(params: Params) -> tuple[str, list[Entity]]:
    """The text of a message. Raises when it is empty or too long."""
    text, entities = _formatted(params, "text", "entities")
    if not text:
        raise bad("message text is empty")
    if units(text) > TEXT_LIMIT:
        raise bad("message is too long")
    return text, entities


def message_caption(params: Params) -> tuple[str, list[Entity]]:
    """The caption of a photo, which may be empty. Raises when it is too long."""
    text, entities = _formatted(params, "caption", "caption_entities")
    if units(text) > CAPTION_LIMIT:
        raise bad("message caption is too long")
    return text, entities


def _formatted(params: Params, name: str, entities_name: str) -> tuple[str, list[Entity]]:
    source = params.text(name)
    mode = params.text("parse_mode").lower()
    if mode == "html":
        return trimmed(*parse_html(source))
    if mode:  # the Markdown modes exist, but nothing here writes them
        raise bad("unsupported parse_mode")
    return trimmed(source, params.parsed(entities_name, list) or [])


def keyboard(params: Params) -> dict[str, Any] | None:
    """The inline keyboard, checked; None when there is none (or one of the other kinds, which stay unchecked)."""
    markup = params.parsed("reply_markup", dict)
    if markup is None or "inline_keyboard" not in markup:
        return None
    rows = markup["inline_keyboard"]
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise bad('object expected as reply markup: Field "inline_keyboard" must be an Array of Arrays')
    if sum(map(len, rows)) > _BUTTONS or any(len(row) > _ROW for row in rows):
        raise bad("reply markup is too long")
    for row in rows:
        for button in row:
            _check_button(button)
    return {"inline_keyboard": rows} if any(rows) else None


def _check_button(button: Any) -> None:
    if not isinstance(button, dict) or not isinstance(button.get("text"), str):
        raise bad('can\'t parse inline keyboard button: Field "text" must be of type String')
    if not button["text"].strip():
        raise bad("can't parse inline keyboard button: Button text must be non-empty")
    actions = [name for name in _ACTIONS if name in button]
    if len(actions) != 1:
        raise bad("can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard")
    check = _BUTTON_CHECKS.get(actions[0])
    if check:
        check(button[actions[0]])


def _check_data(data: Any) -> None:
    if not isinstance(data, str) or not 1 <= len(data.encode()) <= 64:
        raise bad("BUTTON_DATA_INVALID")


def _check_copy(copy: Any) -> None:
    if not isinstance(copy, dict) or not 1 <= units(copy.get("text") or "") <= 256:
        raise bad("BUTTON_COPY_TEXT_INVALID")


def _check_url(url: Any) -> None:
    parts = urlsplit(url) if isinstance(url, str) else None
    is_web = parts is not None and parts.scheme in ("http", "https") and "." in (parts.hostname or "")
    if not is_web and not (parts and parts.scheme == "tg"):
        raise bad(f"inline keyboard button URL '{url}' is invalid: Wrong HTTP URL")


_BUTTON_CHECKS = {"callback_data": _check_data, "copy_text": _check_copy, "url": _check_url}


def photo_size(data: bytes) -> tuple[int, int]:
    """Width and height of an uploaded photo. Raises when Telegram would not take it."""
    if not data:
        raise bad("file must be non-empty")
    if len(data) > PHOTO_BYTES:
        raise bad("file is too big")
    if data.startswith(b"\xff\xd8\xff"):
        return 640, 640  # a JPEG's own size is of no interest here
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or len(data) < 24:
        raise bad("IMAGE_PROCESS_FAILED")
    width, height = struct.unpack(">II", data[16:24])
    if width + height > 10_000 or max(width, height) > 20 * min(width, height):
        raise bad("PHOTO_INVALID_DIMENSIONS")
    return width, height
