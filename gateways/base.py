"""The gateway contract: values in, values out.

A gateway is stateless. It knows one provider's API and words, and nothing of our tables, of Flask
or of retries: the core decides when to call it and keeps what it answers.

Errors, and who catches them::

    GatewayError                 sales.charge and sales.confirm; `permanent` says whether trying again can help
    ├── GatewayRefused           the provider said no to this request (400, 422): permanent
    ├── GatewayMisconfigured     the provider said no to this account (401, 403): permanent, the seller must act
    ├── GatewayUnreachable       it did not take effect (DNS, connect, TLS, 429, 503; any 5xx to a question): try again
    ├── GatewayTimeout           sent, no answer: unknown, the charge may exist
    └── BadGatewayAnswer         an answer we can't use (not JSON, no code, not a BR Code, 500 to a create): unknown too
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from gateways import brcode


class GatewayError(Exception):
    """Something went wrong at a gateway; the message is safe to show and to log."""

    permanent: ClassVar[bool] = False


class GatewayRefused(GatewayError):
    """The provider refused this request; the same request would be refused again.

    http_status: what it answered with, or None when we refused before asking.
    """

    permanent = True

    def __init__(self, message: str, http_status: int | None = None) -> None:
        super().__init__(message)
        self.http_status = http_status


class GatewayMisconfigured(GatewayError):
    """The provider refused these credentials; only the seller can mend it."""

    permanent = True


class GatewayUnreachable(GatewayError):
    """The request did not take effect; it may be sent again."""


class GatewayTimeout(GatewayError):
    """The request was sent and no answer came: whether it took effect is unknown."""


class BadGatewayAnswer(GatewayError):
    """The provider answered something that can't be used: whether it took effect is unknown."""


class Status(StrEnum):
    """What a provider says of a charge, in our words. Unknown words are PENDING: only an explicit yes is paid."""

    PENDING = "pending"
    PAID = "paid"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"


class Authenticity(StrEnum):
    """What a notice's own proof is worth."""

    SIGNED = "signed"  # cryptographically the provider's: its word counts
    UNSIGNED = "unsigned"  # nothing to check, or nothing to check it with yet: a hint, confirmed by query
    FORGED = "forged"  # the proof that the provider should have made is missing or wrong


class PayerField(StrEnum):
    """What a provider may want to know of the buyer; never invented, so a provider that needs more is passed over."""

    NAME = "name"
    EMAIL = "email"
    PHONE = "phone"
    DOCUMENT = "document"


class DisputeState(StrEnum):
    """Of a claim that a payer made at their bank or at the provider. Providers' "accepted" mostly means LOST."""

    OPENED = "opened"
    WON = "won"
    LOST = "lost"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Credential:
    """One field of the form in which a seller enters a gateway's credentials."""

    name: str
    label: str
    required: bool = True
    help: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """One seller's account at a provider.

    base_url: the production address, or what the operator's `<KIND>_API_URL` says.
    credentials: {name: value}, as declared by `Gateway.credentials`.
    public_keys: PEM texts of the provider that a job has fetched; empty until then.
    deadline: when whatever is asked of it has to be answered, by `time.monotonic`; None for each call's own limit.
        It travels with the account so that no provider can forget it, and so that two calls share one.
    """

    base_url: str
    credentials: Mapping[str, str] = field(repr=False)
    public_keys: tuple[str, ...] = ()
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Payer:
    """Who buys, as far as they told us themselves.

    phone: E.164, "+5511…". document: a CPF or CNPJ with right check digits, no punctuation; CNPJs have letters too.
    """

    name: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    phone: str | None = field(default=None, repr=False)
    document: str | None = field(default=None, repr=False)

    def lacks(self, needed: frozenset[PayerField]) -> frozenset[PayerField]:
        return frozenset(one for one in needed if not getattr(self, one))


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """What the core asks for.

    amount_cents: integer cents of BRL.
    reference: an unguessable token of ours that comes back in notices; the same on each try, so that a provider
        that knows idempotency makes one charge.
    notice_url: where this charge's notices go, `?t=<reference>` included.
    expires_in: seconds.
    payer: has at least what `Gateway.payer_needs` names.
    """

    payment_id: str
    reference: str = field(repr=False)
    amount_cents: int
    description: str
    notice_url: str = field(repr=False)
    expires_in: int
    payer: Payer = Payer()


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge that the provider made: its id (as `Gateway.normal_id` writes it) and the PIX code."""

    provider_id: str
    pix_code: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ChargeState:
    """What the provider says of a charge when asked, or in a notice.

    provider_id: empty when a notice did not say.
    amount_cents: None when it did not say; then a PAID can't be believed.
    currency: ISO 4217.
    fee_cents: what the provider keeps of it; None when it did not say.
    refunded_cents: what went back so far, of a charge that stays PAID; a charge that went back whole is REFUNDED.
    reference: ours, in lists and notices of providers that keep it.
    """

    status: Status
    provider_id: str
    amount_cents: int | None
    currency: str = "BRL"
    paid_at: datetime | None = None
    end_to_end_id: str | None = None
    raw_status: str = ""
    fee_cents: int | None = None
    refunded_cents: int | None = None
    reference: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a provider's list of charges. next: what the next part is asked for by; "" after the last."""

    charges: tuple[ChargeState, ...]
    next: str = ""


@dataclass(frozen=True, slots=True)
class Dispute:
    """A claim against a payment, as a provider tells of it; never derived from the payment's own status.

    id: the provider's, of the claim. due_at: until when the seller may defend it, when the provider says.
    reason: the provider's own word, for people.
    """

    id: str
    state: DisputeState
    amount_cents: int | None = None
    opened_at: datetime | None = None
    due_at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RawNotice:
    """A notice as it came in. headers: names in lower case; query: {"": all of it} where it can't be read.

    flaw: what makes the notice unreadable before its body is looked at, or "".
    Nothing of it is in its repr: bodies carry personal data, headers and query carry tokens.
    """

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    flaw: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice, read. Matched by reference, then provider_id, then payment_id, always within one gateway account.

    state: None when the notice carries no status, or is about something that is no sale.
    test: the provider marks it as coming from its test environment.
    event: the provider's own word, for people; nothing is decided by it.
    end_to_end_id: of the customer's PIX; all that some providers name a refund or a dispute by.
    dispute: what the notice tells of a claim; then `state` is None.
    """

    reference: str | None = field(default=None, repr=False)
    provider_id: str | None = None
    payment_id: str | None = None
    state: ChargeState | None = None
    test: bool = False
    event: str = ""
    end_to_end_id: str | None = None
    dispute: Dispute | None = None


def likeliest(charges: Iterable[ChargeState]) -> ChargeState | None:
    """Of several under one reference: the one that is paid, if one is; else the first."""
    found = list(charges)
    return next((one for one in found if one.status is Status.PAID), found[0] if found else None)


class UnreadableNotice(ValueError):
    """The notice's body is not what the provider documents; the message says what is wrong."""


class Gateway:
    """What each provider's file defines. One instance serves all sellers.

    The core calls `create_charge`; a provider writes `make_charge`, so that no provider's code reaches a customer
    unchecked.
    """

    kind: ClassVar[str]
    label: ClassVar[str]
    api_url: ClassVar[str]
    credentials: ClassVar[tuple[Credential, ...]] = ()
    minimum_cents: ClassVar[int] = 1
    buyer_notice: ClassVar[str] = ""  # a sentence that the provider's terms want shown to buyers, in Portuguese
    test_only: ClassVar[bool] = False
    signed: ClassVar[bool] = False  # declares that notices carry a cryptographic signature
    finds_by_reference: ClassVar[bool] = False  # a charge can be asked for by our reference, its id unknown
    asks_a_second: ClassVar[float] = 4.0  # how fast we ask about many charges of one account
    keys_path: ClassVar[str] = ""  # where public keys are fetched from, below api_url
    experimental: ClassVar[bool] = False  # built from weak facts: said so in the panel, and never believed by its word
    payer_needs: ClassVar[frozenset[PayerField]] = frozenset()
    refunds: ClassVar[bool] = True  # gives money back through its API
    refunds_parts: ClassVar[bool] = False
    cancels: ClassVar[bool] = False  # an open charge can be called off
    lists: ClassVar[bool] = False  # charges of a period can be asked for together
    registers: ClassVar[bool] = False  # takes the notices' address through its API
    defence_days: ClassVar[float] = 7.0  # to defend a dispute in, where its notice does not say until when

    def normal_id(self, provider_id: str) -> str:
        """The provider's id in the one form that is stored and compared."""
        return provider_id

    def create_charge(self, account: Account, request: ChargeRequest, seconds: float | None = None) -> Charge:
        """Makes a PIX charge and checks the code that came back. Raises GatewayError.

        seconds: how long it may take, whatever the provider does.
        """
        if request.amount_cents < self.minimum_cents:
            raise GatewayRefused(f"{self.label} takes no less than {self.minimum_cents} cents")
        if missing := request.payer.lacks(self.payer_needs):
            raise GatewayRefused(f"{self.label} wants the payer's {', '.join(sorted(missing))}")
        if seconds is not None:
            account = replace(account, deadline=time.monotonic() + seconds)
        charge = self.make_charge(account, request)
        _check_code(charge.pix_code, request.amount_cents)
        return charge

    def make_charge(self, account: Account, request: ChargeRequest) -> Charge:
        """Asks the provider for a PIX charge. Raises GatewayError."""
        raise NotImplementedError

    def fetch_charge(self, account: Account, provider_id: str, reference: str) -> ChargeState | None:
        """Asks for a charge; None when the provider does not know it. Raises GatewayError."""
        raise NotImplementedError

    def refund(self, account: Account, provider_id: str, reference: str, amount_cents: int) -> None:
        """Gives money back; written by gateways with `refunds`. Raises GatewayError."""
        raise GatewayRefused(f"{self.label} gives nothing back through its API; do it in its panel")

    def cancel_charge(self, account: Account, provider_id: str, reference: str) -> None:
        """Calls an open charge off, for gateways with `cancels`. Raises GatewayError."""
        raise NotImplementedError

    def list_charges(self, account: Account, since: datetime, until: datetime, after: str = "") -> Page:
        """Charges made or paid within a period, for gateways with `lists`. after: the `next` of the part before.
        Raises GatewayError."""
        raise NotImplementedError

    def register_webhook(self, account: Account, url: str) -> None:
        """Has notices sent to this address, for gateways with `registers`; doing it twice changes nothing.
        Raises GatewayError."""
        raise NotImplementedError

    def verify(self, account: Account, notice: RawNotice) -> Authenticity:
        """Checks the notice's proof, without any call to the outside. Without one of its own, it proves nothing."""
        return Authenticity.UNSIGNED

    def parse_notice(self, notice: RawNotice) -> Notice:
        """Reads a notice. Raises UnreadableNotice."""
        raise NotImplementedError

    def split(self, notice: RawNotice) -> tuple[RawNotice, ...]:
        """A notice that speaks of several charges as one for each, never none; as it is where it can't be read."""
        return (notice,)

    def probe(self, account: Account) -> None:
        """Checks that the credentials work, without making anything. Raises GatewayError."""

    def fetch_public_keys(self, account: Account) -> tuple[str, ...]:
        """The provider's public keys as PEM texts, for gateways with `keys_path`. Raises GatewayError."""
        return ()


def _check_code(pix_code: str, amount_cents: int) -> None:
    """A code that a bank would refuse, or that asks another amount, is the provider's error, found before the buyer."""
    try:
        code = brcode.parse(pix_code)
    except brcode.NotABRCode as why:
        raise BadGatewayAnswer(f"the PIX code can't be paid: {why}") from None
    # Dynamic codes may leave the amount to the address they point at; the amount paid is compared when it settles.
    if code.amount_cents not in (None, amount_cents):
        raise BadGatewayAnswer(f"the PIX code asks {code.amount_cents} cents, not {amount_cents}")
