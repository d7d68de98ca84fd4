"""Logins: a row for each browser in which somebody is logged in. The cookie names one; the row says whether it stands.

Flask's cookie is signed, and a copy of it would live as long as the signature: here it ends when its row does. Times
are compared with the clock of the application (`app.now`), written once in some minutes, not at each request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, exists, func, select, text, update
from sqlalchemy.engine import Connection, Row

from bot_manager.app import now
from bot_manager.security.vault import fingerprint, new_secret
from models import Login, User, db

IDLE = timedelta(days=14)
LONGEST = timedelta(days=90)
SEEN_EVERY = timedelta(minutes=5)

_DROP = text(
    "delete from login where id in"
    " (select id from login old where created_at < now() - interval '180 days'"
    "  and exists (select from login newer where newer.user_id = old.user_id and newer.created_at > old.created_at)"
    "  order by id limit :batch)"
)


class Why(StrEnum):
    """What ended a login; time alone writes nothing."""

    LOGOUT = "logout"
    ELSEWHERE = "elsewhere"  # from another browser, or from this one's list
    CHANGED = "password"  # there is a new one
    REPLACED = "replaced"  # somebody logged in again in the same browser


def begin(user_id: int, device: str, address: str) -> str:
    """Opens a login and answers the token for its cookie, which is new each time; the caller commits."""
    token, at = new_secret(), now()
    row = Login(user_id=user_id, token_hash=fingerprint(token), device=device[:80], network=network(address))
    row.created_at = row.seen_at = at
    db.session.add(row)
    return token


def find(token: str, uniquifier: str) -> Row[User, Login] | None:
    """Who is logged in by this token, if it still stands; of a user who may not log in any more, none does."""
    theirs = Login.token_hash == fingerprint(token), User.fs_uniquifier == uniquifier, User.active
    found: Row[User, Login] | None = db.session.execute(
        select(User, Login).join(User, User.id == Login.user_id).where(*theirs, _stands())
    ).one_or_none()
    return found


def seen(login: Login) -> None:
    """Notes, once in some minutes, that its user is there; commits when it wrote."""
    at = now()
    if login.seen_at < at - SEEN_EVERY:
        db.session.execute(update(Login).where(Login.id == login.id, Login.seen_at < at).values(seen_at=at))
        db.session.commit()


def of(user_id: int) -> Sequence[Login]:
    """Those that stand, the last seen first."""
    return db.session.scalars(
        select(Login).where(Login.user_id == user_id, _stands()).order_by(Login.seen_at.desc())
    ).all()


def end(token: str, why: Why) -> None:
    _end(why, Login.token_hash == fingerprint(token))


def end_one(user_id: int, login_id: int) -> bool:
    """Ends one of the user's own; False when there is none such."""
    return _end(Why.ELSEWHERE, Login.user_id == user_id, Login.id == login_id) == 1


def end_all(user_id: int, why: Why) -> None:
    _end(why, Login.user_id == user_id)


def has_been_at(email: str, address: str) -> bool:
    """Whether that user has ever logged in from around that address."""
    been = func.lower(User.email) == email.lower(), Login.user_id == User.id, Login.network == network(address)
    return bool(db.session.scalar(select(exists().where(*been))))


def network(address: str) -> str:
    """The address's neighbourhood (256 of IPv4, a site of IPv6): enough to recognise, too little to find a house."""
    try:
        whole = ipaddress.ip_address(address)
    except ValueError:
        return ""
    return str(ipaddress.ip_network((whole, 24 if whole.version == 4 else 48), strict=False))


def drop_old_logins(connection: Connection, batch: int = 5000) -> None:
    """Deletes one batch of those that began half a year ago; a user's last stays, as it says that they ever came."""
    connection.execute(_DROP, {"batch": batch})


def _stands() -> ColumnElement[bool]:
    at: datetime = now()
    return and_(Login.ended_at.is_(None), Login.seen_at > at - IDLE, Login.created_at > at - LONGEST)


def _end(why: Why, *which: ColumnElement[bool]) -> int:
    ended = update(Login).where(Login.ended_at.is_(None), *which).values(ended_at=now(), why=why)
    return len(db.session.execute(ended.returning(Login.id)).all())
