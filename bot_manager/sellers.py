"""Sellers and the people who log in for them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flask_security.utils import hash_password
from sqlalchemy import exists, select, text, update
from sqlalchemy.dialects.postgresql import insert

import gateways
from bot_manager import log
from bot_manager.app import act_for, vault
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, enqueue
from bot_manager.security import doors
from bot_manager.security.vault import fingerprint, new_secret
from models import Door, DoorKind, Gateway, Login, Membership, Role, Seller, User, db

OPERATOR = "operator"
INVITE_LIFE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class NewSeller:
    """What is told once: the API key is stored as a fingerprint, the invitation opens one time."""

    seller_id: int
    api_key: str
    invitation: str | None


def create(name: str, email: str, owner: User | None = None) -> NewSeller:
    """Makes a shop that acts from now on, with its sandbox for test sales and its owner.

    owner: an existing user; otherwise the owner is the user with that e-mail, who gets an invitation to set a
    password when new.
    """
    seller_id = int(db.session.execute(text("select nextval(pg_get_serial_sequence('seller', 'id'))")).scalar_one())
    act_for(seller_id)
    db.session.add(Seller(id=seller_id, name=name, email=email))
    db.session.flush()
    user, invitation = (owner, None) if owner else _owner(seller_id, email)
    db.session.add(Membership(user_id=user.id, seller_id=seller_id, role="owner"))
    add_gateway(Gateway(seller_id=seller_id, name="sandbox", kind="sandbox", own=True), {})
    api_key = new_secret()
    doors.put(DoorKind.API, fingerprint(api_key), seller_id, seller_id)
    return NewSeller(seller_id, api_key, invitation)


def add_gateway(gateway: Gateway, credentials: dict[str, str]) -> None:
    """Stores the account with a webhook secret of its own and opens its door."""
    gateway.credentials_sealed = vault().seal_json(credentials, "gateway.credentials", gateway.seller_id)
    _give_webhook_secret(gateway)
    if gateways.get(gateway.kind).keys_path:
        trace = log.trace_id.get() or log.new_trace_id()
        enqueue(Job(Name.FETCH_PUBLIC_KEYS, gateway.seller_id, trace, {"gateway": gateway.id}))


def rotate_webhook_secret(gateway: Gateway, window: timedelta) -> datetime:
    """Another secret in the address of its notices. Every older one is good for `window` more; answers until when.

    Charges that were made with the old address tell it to the end of their lives, hence the window.
    """
    until = doors.close(DoorKind.GATEWAY, gateway.id, window)
    _give_webhook_secret(gateway)
    return until


def _give_webhook_secret(gateway: Gateway) -> None:
    secret = new_secret()
    gateway.webhook_secret_sealed = vault().seal(secret, "gateway.webhook_secret", gateway.seller_id)
    db.session.add(gateway)
    db.session.flush()
    doors.put(DoorKind.GATEWAY, fingerprint(secret), gateway.seller_id, gateway.id)


def _owner(seller_id: int, email: str) -> tuple[User, str | None]:
    if user := db.session.scalar(select(User).where(User.email == email)):
        return user, None
    user = add_user(email, None)
    return user, invite(seller_id, user.id)


def add_user(email: str, password: str | None, *roles: Role) -> User:
    hashed = hash_password(password) if password else None
    user = User(email=email, password=hashed, active=True, fs_uniquifier=secrets.token_hex(32), roles=list(roles))
    user.confirmed_at = datetime.now(UTC)
    db.session.add(user)
    db.session.flush()
    return user


def invite(seller_id: int, user_id: int) -> str:
    """A secret that lets a user set their password once, within seven days."""
    secret = new_secret()
    door = Door(kind=DoorKind.INVITE, key=fingerprint(secret), seller_id=seller_id, object_id=user_id)
    door.expires_at = datetime.now(UTC) + INVITE_LIFE
    db.session.add(door)
    return secret


def first_operator(email: str) -> str | None:
    """Makes the operator of a new installation and answers the password, to be shown once; None when there is one."""
    statement = insert(Role).values(name=OPERATOR).on_conflict_do_nothing().returning(Role.id)
    if db.session.execute(statement).scalar_one_or_none() is None:
        return None
    password = secrets.token_urlsafe(12)
    add_user(email, password, db.session.scalars(select(Role).where(Role.name == OPERATOR)).one())
    return password


def nobody_came(email: str) -> bool:
    """Whether there is such a user, who has never logged in."""
    waiting = User.email == email, ~exists().where(Login.user_id == User.id)
    return bool(db.session.scalar(select(exists().where(*waiting))))


def another_password(email: str) -> str:
    """Instead of one that was lost before anybody used it."""
    password = secrets.token_urlsafe(12)
    db.session.execute(update(User).where(User.email == email).values(password=hash_password(password)))
    return password
