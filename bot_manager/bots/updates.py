"""Telegram's updates into the inbox, pushed or polled: one function, so that both keep the same promise."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from sqlalchemy import bindparam, func, or_, update

from bot_manager import log
from bot_manager.bots import inbox
from bot_manager.bots.inbox import Chat
from bot_manager.channels import telegram
from bot_manager.network import strict
from models import Base, db

_bot = Base.metadata.tables["bot"]
# At most once in ten seconds: updates of one bot would otherwise wait for each other's commit on its row.
_HEARD_FROM = (
    update(_bot)
    .where(
        _bot.c.id == bindparam("bot"),
        or_(_bot.c.last_update_at.is_(None), _bot.c.last_update_at < func.now() - timedelta(seconds=10)),
    )
    .values(last_update_at=func.now())
)


class NotAnUpdate(ValueError):
    """What came in is no Telegram update."""

    permanent = True


def keep_pushed(seller_id: int, bot_id: int, raw: bytes, *, packed: bool = False) -> None:
    """Keeps an update as it was pushed; what can't be read is kept too, since it is acknowledged all the same.

    packed: it says that it has to be unpacked, which we never do.
    """
    try:
        if packed:
            raise NotAnUpdate("it is packed")
        keep(seller_id, bot_id, strict.loads(raw))
    except (strict.Unreadable, NotAnUpdate):
        inbox.keep_unreadable(seller_id, bot_id, telegram.CHANNEL, raw, log.trace_id.get())


def keep_readable(seller_id: int, bot_id: int, raw: bytes) -> bool:
    """Keeps an update that could not be read before; False when it can't be read now either."""
    try:
        keep(seller_id, bot_id, strict.loads(raw))
    except (strict.Unreadable, NotAnUpdate):
        return False
    return True


def keep_polled(seller_id: int, bot_id: int, body: Any) -> int:
    """Keeps an update as it was fetched and answers its number; one that can't be read must not stop those behind it.

    0 for what has no number.
    """
    try:
        keep(seller_id, bot_id, body)
    except NotAnUpdate:
        raw = json.dumps(body).encode()
        inbox.keep_unreadable(seller_id, bot_id, telegram.CHANNEL, raw, log.trace_id.get())
    return _number(body) or 0


def keep(seller_id: int, bot_id: int, body: Any) -> None:
    """Keeps one update; the caller acknowledges it after its commit. Raises NotAnUpdate."""
    number, chat = _number(body), _chat(body)
    if number is None:
        raise NotAnUpdate("an update is an object with an update_id")
    db.session.execute(_HEARD_FROM, {"bot": bot_id})
    if chat:
        address = Chat(seller_id, bot_id, telegram.CHANNEL, chat)
        inbox.put(address, f"update:{number}", body, update_id=number)


def _number(body: Any) -> int | None:
    number = body.get("update_id") if isinstance(body, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**63 else None


def _chat(body: Any) -> str | None:
    try:
        return telegram.chat_id_of(body)
    except (AttributeError, TypeError) as error:
        raise NotAnUpdate("something in it is no object") from error
