"""Every table, told as a story: people · shop · customers · attribution · money · messages · intake · engine room.

Columns, constraints, relations and enums; nothing here queries or decides. Money is integer cents of BRL, time is
UTC, `*_sealed` columns hold bytes that only `bot_manager.security.vault` can read. A table with a `seller_id` is under
row-level security: a transaction sees the rows of the seller it acts for, and no others (`ROW_SECURED` below).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from flask_security.core import RoleMixin, UserMixin
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        int: BigInteger,
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[dict[str, Any]]: JSONB,
        list[int]: ARRAY(BigInteger),
        bytes: LargeBinary,
    }


db = SQLAlchemy()


def _key() -> Mapped[int]:
    return mapped_column(BigInteger, Identity(), primary_key=True)


def _now() -> Mapped[datetime]:
    return mapped_column(server_default=func.now())


def _seller() -> Mapped[int]:
    return mapped_column(ForeignKey("seller.id"), index=True)


def _late_index(name: str, *columns: str, where: str) -> Index:
    """One that came when its table may have grown large: built while all goes on, which no migration can."""
    return Index(name, *columns, postgresql_where=text(where), postgresql_concurrently=True)


# People ---------------------------------------------------------------------------------------------------------


class Seller(Base):
    """A tenant: who sells."""

    __tablename__ = "seller"

    id: Mapped[int] = _key()
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)
    timezone: Mapped[str] = mapped_column(server_default="America/Sao_Paulo")
    document: Mapped[str | None]
    address: Mapped[str | None]
    support: Mapped[str | None]
    terms_url: Mapped[str | None]
    created_at: Mapped[datetime] = _now()


roles_users = Table(
    "roles_users",
    Base.metadata,
    Column("user_id", ForeignKey("user.id", ondelete="CASCADE"), primary_key=True),
    Column("role_id", ForeignKey("role.id", ondelete="CASCADE"), primary_key=True),
)


class Role(Base, RoleMixin):
    """Who may do what on the whole installation; only `operator` so far. Rights in a shop are a Membership."""

    __tablename__ = "role"

    id: Mapped[int] = _key()
    name: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str | None]


class User(Base, UserMixin):
    """A person who logs in. The columns are the ones that Flask-Security-Too asks for."""

    __tablename__ = "user"

    id: Mapped[int] = _key()
    email: Mapped[str] = mapped_column(String(255), unique=True)
    password: Mapped[str | None] = mapped_column(String(255))
    active: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    fs_uniquifier: Mapped[str] = mapped_column(String(64), unique=True)
    confirmed_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()
    roles: Mapped[list[Role]] = relationship(secondary=roles_users)  # type: ignore[assignment]  # a list of mixins


class Membership(Base):
    """A user's place in a seller's shop. Read to find out which sellers a user may act for, so outside RLS."""

    __tablename__ = "membership"
    __table_args__ = (CheckConstraint("role in ('owner', 'staff')", name="role"),)

    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), primary_key=True)
    seller_id: Mapped[int] = mapped_column(ForeignKey("seller.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str] = mapped_column(server_default="owner")


class Login(Base):
    """A browser in which somebody is logged in: without its row, the cookie is worth nothing.

    token_hash: SHA-256 of what the cookie carries. device: "Chrome no Android". network: the neighbourhood of its
    address. seen_at: within minutes. why: what ended it.
    """

    __tablename__ = "login"

    id: Mapped[int] = _key()
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    device: Mapped[str]
    network: Mapped[str]
    created_at: Mapped[datetime] = _now()
    seen_at: Mapped[datetime] = _now()
    ended_at: Mapped[datetime | None]
    why: Mapped[str | None]


class Allowance(Base):
    """How many tries somebody has left at something that can be guessed; it fills up again with time.

    key: a keyed hash of what is tried and by whom.
    """

    __tablename__ = "allowance"

    key: Mapped[str] = mapped_column(primary_key=True)
    tries: Mapped[float] = mapped_column(Float)
    at: Mapped[datetime] = mapped_column(index=True)


class DoorKind(StrEnum):
    GATEWAY = "gateway"  # key: SHA-256 of the secret in the notice's path
    BOT = "bot"  # key: the bot's opaque id; secret_hash: of Telegram's secret header
    LINK = "link"  # key: the slug
    API = "api"  # key: SHA-256 of a seller's API key
    INVITE = "invite"  # key: SHA-256 of a one-time login link; object: the user


class Door(Base):
    """Which seller and which thing of theirs an address or a secret from outside leads to.

    Outside RLS, since it is read before the seller is known. Two doors may lead to the same thing: that is how a
    secret is rotated.
    """

    __tablename__ = "door"
    __table_args__ = (Index("ix_door_object", "kind", "object_id"),)

    kind: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    seller_id: Mapped[int] = mapped_column(ForeignKey("seller.id", ondelete="CASCADE"))
    object_id: Mapped[int]
    secret_hash: Mapped[str | None]
    expires_at: Mapped[datetime | None]


# The shop -------------------------------------------------------------------------------------------------------


class BotState(StrEnum):
    CONNECTING = "connecting"
    ACTIVE = "active"
    UNCONNECTED = "unconnected"  # no token yet: only the panel's test chat
    REFUSED = "refused"  # Telegram refuses the token
    UNREACHABLE = "unreachable"  # the last probe did not get through
    ARCHIVED = "archived"


class Bot(Base):
    """A bot on a channel. public_id: the opaque id in its webhook's address. pix_minutes: how long a code lives.

    old_tokens_sealed: a list of the tokens it had before and whose updates may still be pushed to us.
    """

    __tablename__ = "bot"
    __table_args__ = (UniqueConstraint("seller_id", "key"),)

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    key: Mapped[str]
    channel: Mapped[str] = mapped_column(server_default="telegram")
    public_id: Mapped[str] = mapped_column(unique=True)
    token_sealed: Mapped[bytes | None]
    token_hash: Mapped[str | None] = mapped_column(unique=True)
    old_tokens_sealed: Mapped[bytes | None]
    username: Mapped[str | None]
    name: Mapped[str | None]
    test: Mapped[bool] = mapped_column(server_default=text("false"))
    funnel: Mapped[dict[str, Any] | None]
    pix_minutes: Mapped[int] = mapped_column(server_default="30")
    state: Mapped[str] = mapped_column(server_default=BotState.CONNECTING)
    state_note: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default="1")
    next_send_at: Mapped[datetime] = _now()
    last_update_at: Mapped[datetime | None]
    archived_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()
    offers: Mapped[list[Offer]] = relationship(secondary="bot_offer", order_by="BotOffer.position", viewonly=True)


class Offer(Base):
    """What is sold. delivers: [{"kind": "link", "url"} | {"kind": "group", "chat_id", "days"}]."""

    __tablename__ = "offer"
    __table_args__ = (UniqueConstraint("seller_id", "key"), CheckConstraint("price_cents > 0", name="price"))

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    key: Mapped[str]
    name: Mapped[str]
    price_cents: Mapped[int]
    delivers: Mapped[list[dict[str, Any]]]
    archived_at: Mapped[datetime | None]


class BotOffer(Base):
    """Which offers a bot shows, in which order."""

    __tablename__ = "bot_offer"

    bot_id: Mapped[int] = mapped_column(ForeignKey("bot.id"), primary_key=True)
    offer_id: Mapped[int] = mapped_column(ForeignKey("offer.id"), primary_key=True)
    seller_id: Mapped[int] = _seller()
    position: Mapped[int]


class Gateway(Base):
    """One account of the seller's at a provider. Lowest priority number first; weight is a share within a priority.

    webhook_secret_sealed: the secret in its notices' address, which `get_webhook_url` shows again.
    own: made by us for test sales; the shop file neither lists nor archives it.
    failures to outcomes: its circuit breaker, as `gateways.breaker.Breaker` tells it.
    failures to probe_until: its circuit breaker, as `gateways.breaker.Breaker` tells it.
    fee_fixed_cents, fee_basis_points: what the provider keeps of each charge, as the seller told; hundredths of 1 %.
    """

    __tablename__ = "gateway"
    __table_args__ = (
        UniqueConstraint("seller_id", "name"),
        CheckConstraint("weight between 1 and 1000", name="weight"),
        CheckConstraint("priority > 0", name="priority"),
    )

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    name: Mapped[str]
    kind: Mapped[str]
    priority: Mapped[int] = mapped_column(server_default="1")
    weight: Mapped[int] = mapped_column(server_default="1")
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    own: Mapped[bool] = mapped_column(server_default=text("false"))
    credentials_sealed: Mapped[bytes]
    webhook_secret_sealed: Mapped[bytes]
    last_notice_at: Mapped[datetime | None]
    last_charge_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    last_error_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(server_default="0")
    failed_at: Mapped[datetime | None]
    openings: Mapped[int] = mapped_column(server_default="0")
    open_until: Mapped[datetime | None]
    probe_until: Mapped[datetime | None]
    outcomes: Mapped[str] = mapped_column(server_default="")
    fee_fixed_cents: Mapped[int | None]
    fee_basis_points: Mapped[int | None]
    archived_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()


class Link(Base):
    """A redirect link for ads. slug is unique on the whole installation, since it is an address."""

    __tablename__ = "link"
    __table_args__ = (CheckConstraint("mode in ('redirect', 'page')", name="mode"),)

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    slug: Mapped[str] = mapped_column(unique=True)
    bot_id: Mapped[int] = mapped_column(ForeignKey("bot.id"))
    mode: Mapped[str] = mapped_column(server_default="redirect")
    archived_at: Mapped[datetime | None]


class Destination(Base):
    """Where purchases are reported. bot_ids: only these bots' sales; null means all. paused_note: why it rests.

    since: from when on it wants them; who widens what it wants moves it.
    """

    __tablename__ = "destination"
    __table_args__ = (UniqueConstraint("seller_id", "name"),)

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    name: Mapped[str]
    kind: Mapped[str]
    pixel_id: Mapped[str]
    access_token_sealed: Mapped[bytes]
    test_event_code: Mapped[str | None]
    bot_ids: Mapped[list[int] | None]
    paused_note: Mapped[str | None]
    since: Mapped[datetime] = _now()
    archived_at: Mapped[datetime | None]


# Customers ------------------------------------------------------------------------------------------------------


class Customer(Base):
    """A contact of one bot, and the conversation with them; the row is locked while their inbox is drained.

    profile_sealed: JSON of what the channel and the gateways told (first_name, last_name, username, phone, email).
    tracking_token: of the last click that led here. next_send_at: the chat's own pace.
    """

    __tablename__ = "customer"
    __table_args__ = (UniqueConstraint("bot_id", "channel", "chat_id"),)

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    bot_id: Mapped[int] = mapped_column(ForeignKey("bot.id"))
    channel: Mapped[str]
    chat_id: Mapped[str]
    external_id: Mapped[str] = mapped_column(unique=True)
    profile_sealed: Mapped[bytes | None]
    tracking_token: Mapped[str | None]
    state: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    last_position: Mapped[int] = mapped_column(server_default="0")
    next_send_at: Mapped[datetime] = _now()
    blocked_at: Mapped[datetime | None]
    started_at: Mapped[datetime] = _now()


# Attribution ----------------------------------------------------------------------------------------------------


class Click(Base):
    """A visit to a redirect link.

    visitor_sealed: JSON {ip, user_agent, referrer, fbp, fbc}. params: utm_*, src and sck, as they came.
    not_a_person: why it is left out of counts (a preview fetcher, a prefetch); it still gets a token.
    """

    __tablename__ = "click"

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    link_id: Mapped[int] = mapped_column(ForeignKey("link.id"))
    tracking_token: Mapped[str] = mapped_column(unique=True)
    fbclid: Mapped[str | None]
    params: Mapped[dict[str, Any]]
    visitor_sealed: Mapped[bytes]
    not_a_person: Mapped[str | None]
    at: Mapped[datetime] = _now()


class ConversionState(StrEnum):
    WAITING = "waiting"
    SENDING = "sending"
    DELIVERED = "delivered"
    SKIPPED = "skipped"  # nothing to tell (a test sale without a test code): final, with its reason
    PAUSED = "paused"  # the destination's token is refused; waits for the seller
    EXPIRED = "expired"  # older than the destination takes
    DEAD = "dead"  # refused for good, or tried too often


class Conversion(Base):
    """One purchase told to one destination, under one event_id for ever."""

    __tablename__ = "conversion"
    __table_args__ = (
        UniqueConstraint("destination_id", "event_name", "payment_id"),
        _late_index("ix_conversion_dead", "id", where="state = 'dead'"),
    )

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    destination_id: Mapped[int] = mapped_column(ForeignKey("destination.id"))
    payment_id: Mapped[int] = mapped_column(ForeignKey("payment.id"), index=True)
    event_name: Mapped[str]
    event_id: Mapped[str]
    event_time: Mapped[datetime]
    state: Mapped[str] = mapped_column(server_default=ConversionState.WAITING)
    attempts: Mapped[int] = mapped_column(server_default="0")
    claimed_at: Mapped[datetime | None]
    receipt: Mapped[str | None]
    last_error: Mapped[str | None]
    trace_id: Mapped[str]
    created_at: Mapped[datetime] = _now()
    ended_at: Mapped[datetime | None]


# Money ----------------------------------------------------------------------------------------------------------


class PaymentStatus(StrEnum):
    NEW = "new"
    PENDING = "pending"
    PAID = "paid"
    REFUNDED = "refunded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Payment(Base):
    """One sale. `bot_manager.sales` is the only writer of status.

    payment_id: BOT{bot_id}_{uuid4 hex}. webhook_token: comes back in notices, unguessable.
    gateway_id: whose code the customer was shown; null before. claimed_at: since when a job is charging it.
    asked_at: when the customer last asked whether it is paid. items: what is delivered, frozen at the offer.
    """

    __tablename__ = "payment"
    __table_args__ = (
        CheckConstraint("amount_cents > 0", name="amount"),
        Index(
            "uq_payment_live",
            "customer_id",
            "offer_id",
            unique=True,
            postgresql_where=text("status in ('new', 'pending')"),
        ),
        Index("ix_payment_sales", "seller_id", "created_at"),
    )

    id: Mapped[int] = _key()
    payment_id: Mapped[str] = mapped_column(unique=True)
    seller_id: Mapped[int] = mapped_column(ForeignKey("seller.id"))
    bot_id: Mapped[int] = mapped_column(ForeignKey("bot.id"))
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    offer_id: Mapped[int] = mapped_column(ForeignKey("offer.id"))
    offer_name: Mapped[str]
    items: Mapped[list[dict[str, Any]]]
    amount_cents: Mapped[int]
    currency: Mapped[str] = mapped_column(server_default="BRL")
    test: Mapped[bool] = mapped_column(server_default=text("false"))
    status: Mapped[str] = mapped_column(server_default=PaymentStatus.NEW)
    webhook_token: Mapped[str] = mapped_column(unique=True)
    tracking_token: Mapped[str | None]
    trace_id: Mapped[str]
    gateway_id: Mapped[int | None] = mapped_column(ForeignKey("gateway.id"))
    pix_code: Mapped[str | None]
    expires_at: Mapped[datetime]
    claimed_at: Mapped[datetime | None]
    asked_at: Mapped[datetime | None]
    paid_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()


class AttemptState(StrEnum):
    SENDING = "sending"
    MADE = "made"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"  # sent, no usable answer: the charge may exist, and its notice still settles
    PAID = "paid"
    REFUNDED = "refunded"  # its money went back whole; also when its refund was told before its payment


# Of charge attempts: what the books do not know of yet.
UNBOOKED = "state in ('paid', 'refunded') and booked is distinct from state"


class ChargeAttempt(Base):
    """One try to charge one payment at one gateway account. provider_id is unique within the account.

    booked: the state that the books know of; what an older program settles is booked by the clock.
    """

    __tablename__ = "charge_attempt"
    __table_args__ = (
        UniqueConstraint("gateway_id", "provider_id"),
        _late_index("ix_charge_attempt_transfer", "gateway_id", "end_to_end_id", where="end_to_end_id is not null"),
        Index(
            "ix_charge_attempt_unbooked",
            "id",
            postgresql_where=text(UNBOOKED),
        ),
    )

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    payment_id: Mapped[int] = mapped_column(ForeignKey("payment.id"), index=True)
    gateway_id: Mapped[int] = mapped_column(ForeignKey("gateway.id"))
    provider_id: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default=AttemptState.SENDING)
    error: Mapped[str | None]
    end_to_end_id: Mapped[str | None]
    started_at: Mapped[datetime] = _now()
    ended_at: Mapped[datetime | None]
    paid_at: Mapped[datetime | None]
    booked: Mapped[str | None]


class LedgerEntry(Base):
    """A line of the seller's books: money of one charge that came in or went out. The database lets none be changed.

    kind: sale, fee or refund. amount_cents: what it did to the seller's balance, so fees and refunds are negative.
    key: what it is about; told again, it is not written again. at: when the money moved.
    """

    __tablename__ = "ledger_entry"
    __table_args__ = (UniqueConstraint("attempt_id", "key"), Index("ix_ledger_entry_seller_id_at", "seller_id", "at"))

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = mapped_column(ForeignKey("seller.id"))
    gateway_id: Mapped[int] = mapped_column(ForeignKey("gateway.id"))
    payment_id: Mapped[int] = mapped_column(ForeignKey("payment.id"), index=True)
    attempt_id: Mapped[int] = mapped_column(ForeignKey("charge_attempt.id"))
    kind: Mapped[str]
    amount_cents: Mapped[int]
    key: Mapped[str]
    at: Mapped[datetime]
    written_at: Mapped[datetime] = _now()


class Turn(Base):
    """How many first places were given out among gateways that share them. among: their ids and weights.

    One count for each set, so that shares come out exactly whatever other sales (tests, small amounts) come between.
    """

    __tablename__ = "turn"

    seller_id: Mapped[int] = mapped_column(ForeignKey("seller.id"), primary_key=True)
    among: Mapped[str] = mapped_column(primary_key=True)
    taken: Mapped[int]


class Decision(Base):
    """Whom one run of a charge meant to ask, and why. Never changed: what a sale would have done is replayed from it.

    turn: whose turn it was, counted from 0, in rounds of `round` turns; a run after a crash keeps its sale's.
    candidates: every account of the shop that could be meant, [{"gateway", "priority", "weight", "verdict"}] and,
    when its breaker is not closed, {"failures", "open_until"}; verdict is a `bot_manager.payments.decisions.Verdict`.
    asks: the ids of those to ask, in order.
    """

    __tablename__ = "decision"

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    payment_id: Mapped[int] = mapped_column(ForeignKey("payment.id"), index=True)
    turn: Mapped[int]
    round: Mapped[int]
    candidates: Mapped[list[dict[str, Any]]]
    asks: Mapped[list[int]]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class PaymentEvent(Base):
    """The audit of a payment, which is also its timeline: what happened, when. Never changed."""

    __tablename__ = "payment_event"
    __table_args__ = (
        Index("uq_payment_event_paid", "payment_id", unique=True, postgresql_where=text("kind = 'paid'")),
        Index("ix_payment_event_payment_id", "payment_id", "id"),
    )

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = mapped_column(ForeignKey("seller.id"))
    payment_id: Mapped[int] = mapped_column(ForeignKey("payment.id"))
    kind: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class DeliveryState(StrEnum):
    WAITING = "waiting"
    QUEUED = "queued"  # its message waits in the chat
    DELIVERED = "delivered"  # the channel accepted it
    BLOCKED = "blocked"  # the customer blocked the bot: waits until they are back
    SKIPPED = "skipped"  # a test sale gives no access: final
    FAILED = "failed"


class Delivery(Base):
    """One thing that a paid offer delivers. item: its place in `Payment.items`."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("payment_id", "item"),
        _late_index("ix_delivery_failed", "id", where="state = 'failed'"),
    )

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    payment_id: Mapped[int] = mapped_column(ForeignKey("payment.id"))
    item: Mapped[int]
    state: Mapped[str] = mapped_column(server_default=DeliveryState.WAITING)
    note: Mapped[str | None]
    invite_sealed: Mapped[bytes | None]
    delivered_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()


class AccessState(StrEnum):
    OPEN = "open"  # may enter, or is inside
    ENDED = "ended"


class Access(Base):
    """A customer's right to be in one group, from one delivery.

    ends_at: null is for ever. entered_at: when the channel let them in. why: what ended it, expired or refunded.
    """

    __tablename__ = "access"
    __table_args__ = (Index(None, "customer_id", "group_id"),)

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    delivery_id: Mapped[int] = mapped_column(ForeignKey("delivery.id"), unique=True)
    payment_id: Mapped[int] = mapped_column(ForeignKey("payment.id"), index=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    group_id: Mapped[int]
    state: Mapped[str] = mapped_column(server_default=AccessState.OPEN)
    ends_at: Mapped[datetime | None]
    entered_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    why: Mapped[str | None]
    last_error: Mapped[str | None]
    created_at: Mapped[datetime] = _now()


# Messages -------------------------------------------------------------------------------------------------------


class MessageState(StrEnum):
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    BLOCKED = "blocked"


class Message(Base):
    """One outgoing message, at its place in the chat. body_sealed: `bot_manager.channels.base.Content` as JSON."""

    __tablename__ = "message"
    __table_args__ = (
        UniqueConstraint("customer_id", "position"),
        Index("ix_message_open", "customer_id", "position", postgresql_where=text("state in ('queued', 'sending')")),
    )

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    position: Mapped[int]
    body_sealed: Mapped[bytes]
    state: Mapped[str] = mapped_column(server_default=MessageState.QUEUED)
    payment_id: Mapped[int | None] = mapped_column(ForeignKey("payment.id"))
    delivery_id: Mapped[int | None] = mapped_column(ForeignKey("delivery.id"))
    attempts: Mapped[int] = mapped_column(server_default="0")
    claim: Mapped[str | None]
    claimed_at: Mapped[datetime | None]
    external_id: Mapped[str | None]
    last_error: Mapped[str | None]
    trace_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    sent_at: Mapped[datetime | None]


# What came in ---------------------------------------------------------------------------------------------------


class InboxState(StrEnum):
    NEW = "new"
    DONE = "done"
    DEAD = "dead"


class Inbox(Base):
    """An update of a chat, kept before it is acknowledged. event_key makes it unique; update_id gives its order.

    Our own events for a chat (a code is ready, a check is answered) come in here too, without an update_id, so that
    a chat has one serial order.
    """

    __tablename__ = "inbox"
    __table_args__ = (
        UniqueConstraint("bot_id", "channel", "event_key"),
        Index("ix_inbox_new", "bot_id", "channel", "chat_id", postgresql_where=text("state = 'new'")),
        Index("ix_inbox_dead", "id", postgresql_where=text("state = 'dead'")),
    )

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    bot_id: Mapped[int] = mapped_column(ForeignKey("bot.id"))
    channel: Mapped[str]
    chat_id: Mapped[str]
    event_key: Mapped[str]
    update_id: Mapped[int | None]
    body_sealed: Mapped[bytes]
    state: Mapped[str] = mapped_column(server_default=InboxState.NEW)
    attempts: Mapped[int] = mapped_column(server_default="0")
    last_error: Mapped[str | None]
    trace_id: Mapped[str]
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    done_at: Mapped[datetime | None]


class ReceiptState(StrEnum):
    RECEIVED = "received"
    CONFIRMING = "confirming"  # a hint: the gateway is being asked
    SETTLED = "settled"  # it made the payment paid
    DUPLICATE = "duplicate"  # the payment was paid already
    IGNORED = "ignored"  # read, and nothing to do (created, test call, pending)
    PARKED = "parked"  # matches no charge yet, or its gateway does not answer; tried again
    UNREADABLE = "unreadable"
    MISMATCH = "mismatch"  # authentic, but another amount or currency: never paid
    FORGED = "forged"


class WebhookReceipt(Base):
    """A gateway's notice, raw, kept before it is acknowledged.

    digest: SHA-256 of body and query; the same notice again only raises `repeats`.
    """

    __tablename__ = "webhook_receipt"
    __table_args__ = (
        UniqueConstraint("gateway_id", "digest"),
        Index(
            "ix_webhook_receipt_dead",
            "id",
            postgresql_where=text("state in ('unreadable', 'mismatch', 'parked', 'forged')"),
        ),
    )

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    gateway_id: Mapped[int] = mapped_column(ForeignKey("gateway.id"))
    digest: Mapped[str]
    body_sealed: Mapped[bytes]
    headers: Mapped[dict[str, Any]]
    authenticity: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=ReceiptState.RECEIVED)
    note: Mapped[str | None]
    payment_id: Mapped[int | None] = mapped_column(ForeignKey("payment.id"), index=True)
    repeats: Mapped[int] = mapped_column(server_default="0")
    tries: Mapped[int] = mapped_column(server_default="0")
    trace_id: Mapped[str]
    received_at: Mapped[datetime] = _now()
    last_at: Mapped[datetime] = _now()


class RetryState(StrEnum):
    WAITING = "waiting"  # in a batch that has not come to it yet
    DONE = "done"
    MOOT = "moot"  # there was nothing left to do
    STUCK = "stuck"  # it can't be read now either
    STOPPED = "stopped"


class Retry(Base):
    """Who had a dead letter tried again, and when. what: as in `dead_letters.Wanted`; row_id: its id there."""

    __tablename__ = "retry"
    __table_args__ = (
        Index(
            "uq_retry_once",
            "what",
            "row_id",
            unique=True,
            postgresql_where=text("state = 'waiting' or what = 'job' and state <> 'stopped'"),
        ),
        Index("ix_retry_batch_id", "batch_id", "id"),
    )

    id: Mapped[int] = _key()
    seller_id: Mapped[int] = _seller()
    batch_id: Mapped[int | None] = mapped_column(ForeignKey("retry_batch.id"))
    what: Mapped[str]
    row_id: Mapped[int]
    state: Mapped[str] = mapped_column(server_default=RetryState.WAITING)
    asked_by: Mapped[str]
    asked_at: Mapped[datetime] = _now()
    ended_at: Mapped[datetime | None]


# The engine room, outside row-level security: no seller's data lives here ----------------------------------------


class Timer(Base):
    """A job to come. key is what it is about, so that it can be moved or cancelled; args go to the job as they are.

    share: whose turn the job will take.
    """

    __tablename__ = "timer"

    key: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    seller_id: Mapped[int] = mapped_column(ForeignKey("seller.id", ondelete="CASCADE"))
    args: Mapped[dict[str, Any]]
    lock: Mapped[str | None]
    share: Mapped[str] = mapped_column(server_default="any")
    trace_id: Mapped[str]
    due_at: Mapped[datetime] = mapped_column(index=True)


class Pulse(Base):
    """When the clock last ticked: the time since then, at a tick, is how long we were away."""

    __tablename__ = "pulse"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class Absence(Base):
    """A time in which nobody worked here. charges: how many were to be asked about again after it."""

    __tablename__ = "absence"

    id: Mapped[int] = _key()
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime] = _now()
    charges: Mapped[int] = mapped_column(server_default="0")


class Lookup(Base):
    """A charge that may have been paid while we were away: its gateway is asked, in order of place, and it is gone."""

    __tablename__ = "lookup"
    __table_args__ = (Index("ix_lookup_next", "gateway_id", "place"),)

    attempt_id: Mapped[int] = mapped_column(ForeignKey("charge_attempt.id", ondelete="CASCADE"), primary_key=True)
    payment_id: Mapped[int]
    gateway_id: Mapped[int]
    seller_id: Mapped[int]
    place: Mapped[int]
    tries: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = _now()


class SecurityEvent(Base):
    """Something that should not happen: a wrong secret, a forged notice, an amount that differs.

    origin: the sender's address. tally: what more of the same in the same minute is counted to, in `repeats`.
    """

    __tablename__ = "security_event"

    id: Mapped[int] = _key()
    kind: Mapped[str]
    seller_id: Mapped[int | None]
    detail: Mapped[dict[str, Any]]
    trace_id: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    origin: Mapped[str] = mapped_column(server_default="")
    tally: Mapped[str | None] = mapped_column(unique=True)
    repeats: Mapped[int] = mapped_column(server_default="0")
    last_at: Mapped[datetime] = mapped_column(server_default=func.now())


class JobError(Base):
    """Why a job of the engine failed for good; it goes when the job does."""

    __tablename__ = "job_error"

    job_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    error: Mapped[str]


class RetryBatch(Base):
    """A set of dead letters that an operator has tried again, slice by slice, until done or stopped."""

    __tablename__ = "retry_batch"

    id: Mapped[int] = _key()
    asked_by: Mapped[str]
    wanted: Mapped[dict[str, Any]]
    size: Mapped[int]
    asked_at: Mapped[datetime] = _now()
    stopped_at: Mapped[datetime | None]


class ProviderKey(Base):
    """A gateway kind's public key, fetched by a job; never inside a request."""

    __tablename__ = "provider_key"

    kind: Mapped[str] = mapped_column(primary_key=True)
    pem: Mapped[str] = mapped_column(primary_key=True)
    fetched_at: Mapped[datetime] = _now()


OUTSIDE_RLS = frozenset(
    {"user", "role", "roles_users", "membership", "door", "timer", "security_event", "provider_key"}
    | {"job_error", "retry_batch", "pulse", "absence", "lookup", "login", "allowance"}
)
ROW_SECURED = tuple(table.name for table in Base.metadata.sorted_tables if table.name not in OUTSIDE_RLS)
