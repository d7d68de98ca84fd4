"""Security events: what should not happen, written down for the operator in the transaction in which it was seen.

One attack is one row, found by its trace id. A flood is one row a minute, with a count: by who sent it, or by the thing
it was about; and past a number of senders in one minute, one row for all the rest of them.
"""

from __future__ import annotations

from contextvars import ContextVar
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection

from bot_manager import log
from models import db

KEEP_DAYS = 90
MOST_A_MINUTE = 60  # rows of one kind
MOST_TEXT = 120

origin: ContextVar[str] = ContextVar("origin", default="")


class Kind(StrEnum):
    """What can be seen. Detail: plain values, nothing secret and nothing of a customer's."""

    WRONG_WEBHOOK_SECRET = "wrong_webhook_secret"  # noqa: S105 - a notice at an address that is none; detail: gateway_kind
    WRONG_TELEGRAM_SECRET = "wrong_telegram_secret"  # noqa: S105 - an update without the bot's secret; detail: known_bot
    FORGED_NOTICE = "forged_notice"  # a notice whose proof is missing or wrong; detail: gateway, receipt
    NOTICE_MISMATCH = "notice_mismatch"  # authentic, and does not fit its sale; detail: gateway, receipt
    GUESSED_TOO_OFTEN = "guessed_too_often"  # passwords or invitations; detail: limit, network


_REPORT = text(
    "with full_up as (select count(*) >= :most as yes from security_event"
    "  where at >= date_trunc('minute', now()) and kind = :kind)"
    " insert into security_event (kind, seller_id, origin, detail, trace_id, tally)"
    " select :kind, case when yes then null else cast(:seller as bigint) end, case when yes then '' else :origin end,"
    "  case when yes then '{}' else cast(:detail as jsonb) end, :trace,"
    "  :kind || case when yes then '' else :about end || ' ' || to_char(now() at time zone 'UTC', 'YYYY-MM-DD HH24:MI')"
    " from full_up on conflict (tally) do update"
    " set repeats = security_event.repeats + 1, last_at = clock_timestamp()"
).bindparams(bindparam("detail", type_=JSONB))
_FORGET = text(
    "delete from security_event where id in (select id from security_event"
    " where at < now() - make_interval(days => :days) order by at limit :batch)"
)


def report(kind: str, seller_id: int | None = None, about: str = "", **detail: Any) -> None:
    """Writes it down in the current transaction, or counts it to the one like it of this minute.

    about: what it is counted by; the sender's address, unless told otherwise.
    """
    by = f" {seller_id or ''} {about or origin.get()}"
    values = {"kind": kind, "seller": seller_id, "origin": origin.get(), "about": by, "trace": log.trace_id.get()}
    db.session.execute(_REPORT, {**values, "detail": _plain(detail), "most": MOST_A_MINUTE})


def _plain(detail: dict[str, Any]) -> dict[str, Any]:
    """Fit to be stored and shown: strangers choose some of it."""
    return {name: _plain_text(value) if isinstance(value, str) else value for name, value in detail.items()}


def _plain_text(value: str) -> str:
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value[:MOST_TEXT])
    return log.masked(shown)


def forget_security_events(connection: Connection, batch: int = 5000) -> None:
    """Deletes one batch of those older than 90 days: they hold senders' addresses."""
    connection.execute(_FORGET, {"days": KEEP_DAYS, "batch": batch})
