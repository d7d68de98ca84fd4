"""The destination contract: values in, values out.

A destination is stateless. It knows one ad platform's API, and nothing of our tables, of Flask or of retries: the core
decides when to send, keeps what is answered, and makes sure that an event has the same `event_id` each time.

Errors, and what the core does about each::

    DestinationError                  message and trace_id are safe to show and to log
    ├── DestinationRefused            permanent: these events will never be taken
    ├── DestinationMisconfigured      pauses: the seller must act; the events wait, and go out after that
    ├── DestinationUnreachable        unsent: provably nothing was taken in; send it again
    │   └── DestinationThrottled      the same, but not before `wait_seconds` have passed, with this account
    └── Ambiguous                     sent, and no answer that settles it: the events may have been taken in; the same
                                      `event_id` may go out again only within `Destination.dedup_window`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar


class DestinationError(Exception):
    """Something went wrong at a destination. trace_id: the platform's own name for the exchange, or ""."""

    permanent: ClassVar[bool] = False
    pauses: ClassVar[bool] = False
    unsent: ClassVar[bool] = True

    def __init__(self, message: str, trace_id: str = "") -> None:
        super().__init__(message)
        self.trace_id = trace_id


class DestinationRefused(DestinationError):
    """The platform, or our own check before it, refused these events; of several, one may be to blame for all."""

    permanent = True


class DestinationMisconfigured(DestinationError):
    """The platform refused this account: token, permission or pixel; only the seller can mend it."""

    pauses = True


class DestinationUnreachable(DestinationError):
    """The request did not take effect; it may be sent again."""


class DestinationThrottled(DestinationUnreachable):
    """Too much for this account; it may be sent again after `wait_seconds`."""

    def __init__(self, message: str, trace_id: str = "", wait_seconds: int = 60) -> None:
        super().__init__(message, trace_id)
        self.wait_seconds = wait_seconds


class Ambiguous(DestinationError):
    """Whether the platform has the events is unknown."""

    unsent = False


class EventName(StrEnum):
    """The standard names, which every platform knows or has its own word for."""

    PAGE_VIEW = "PageView"
    VIEW_CONTENT = "ViewContent"
    LEAD = "Lead"
    CONTACT = "Contact"
    INITIATE_CHECKOUT = "InitiateCheckout"
    PURCHASE = "Purchase"


@dataclass(frozen=True, slots=True)
class Credential:
    """One field of the form in which a seller enters a destination's account."""

    name: str
    label: str
    secret: bool = True
    required: bool = True
    help: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """One seller's account at a destination.

    base_url: the production address, or the one the operator set.
    credentials: {name: value}, as declared by `Destination.credentials`.
    test_code: makes the platform show the events as tests; never for real sales.
    """

    base_url: str
    credentials: Mapping[str, str] = field(repr=False)
    test_code: str | None = None


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who clicked, as the redirect page saw it; all as it came. source_url: the page's address."""

    ip: str | None = field(default=None, repr=False)
    user_agent: str | None = field(default=None, repr=False)
    fbp: str | None = None
    fbc: str | None = None
    source_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Customer:
    """Who bought, as typed or as the gateway told; a document is left out on purpose, it goes to no ad platform.

    external_id: our stable, opaque id of this customer, the same in each event of a seller.
    """

    email: str | None = field(default=None, repr=False)
    phone: str | None = field(default=None, repr=False)
    first_name: str | None = field(default=None, repr=False)
    last_name: str | None = field(default=None, repr=False)
    external_id: str | None = None
    country: str | None = None


@dataclass(frozen=True, slots=True)
class ConversionEvent:
    """Something a visitor or customer did.

    event_id: the same each time this event is sent, anywhere; with the name it is what platforms deduplicate by.
    event_time: aware; when it happened (of a purchase: was paid), not when it is sent.
    value_cents, currency (ISO 4217): together or not at all; a purchase needs them.
    order_id, content_id: opaque; what is sold has no name here.
    """

    event_name: EventName
    event_id: str
    event_time: datetime
    value_cents: int | None = None
    currency: str | None = None
    visitor: Visitor = Visitor()
    customer: Customer = Customer()
    order_id: str | None = None
    content_id: str | None = None

    def __post_init__(self) -> None:
        if self.event_time.tzinfo is None:
            raise ValueError("event_time has no time zone")


@dataclass(frozen=True, slots=True)
class Receipt:
    """All events of a call were taken in. trace_id: the platform's name for the exchange (Meta's fbtrace_id)."""

    trace_id: str


class Destination:
    """What each platform's file defines, with one instance as `destination`. It serves all sellers.

    max_age: events older than that are refused; sending them is a waste.
    dedup_window: as long as the platform recognises an `event_id`, counted from the first time it was sent.
    batch_size: events in one call of `send`.
    """

    kind: ClassVar[str]
    label: ClassVar[str]
    api_url: ClassVar[str]
    credentials: ClassVar[tuple[Credential, ...]] = ()
    max_age: ClassVar[timedelta]
    dedup_window: ClassVar[timedelta]
    batch_size: ClassVar[int] = 1

    def build(self, event: ConversionEvent) -> dict[str, Any]:
        """The event as the platform wants it, without any call. Raises DestinationRefused when it lacks something."""
        raise NotImplementedError

    def send(self, account: Account, events: Sequence[ConversionEvent]) -> Receipt:
        """Sends 1 to `batch_size` events, all or none. Raises DestinationError."""
        raise NotImplementedError
