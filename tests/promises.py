"""The product's promises as sentences that are broken: what must hold at every moment, and what at rest.

What is owed is told by the world alone: the bank's ledger, and the chats as customers see them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bot_manager.funnels import texts
from bot_manager.ops import checker
from tests import ledger
from tests.shops import Shop
from tests.stage import Stage
from tests.world.bank import Charge
from tests.world.telegram.html import parse_html

Row = dict[str, Any]

_BROKEN_AT_ANY_MOMENT = " union all ".join(
    f"select '{rule}: ' || example from ({statement}) as {rule} (example)"
    for rule, statement in checker.RULES.items()
    if not rule.startswith(("late_", "failed_", "sold_without", "purchase_not"))
)
_PAYMENTS = """
    select p.id, p.payment_id, p.seller_id, p.status, p.amount_cents, p.webhook_token, p.offer_name, p.items,
     p.bot_id, b.username, c.chat_id, p.gateway_id,
     exists (select from payment_event e where e.payment_id = p.id and e.kind = 'paid') as was_paid,
     exists (select from payment_event e join payment_event later on later.payment_id = e.payment_id and later.id > e.id
      where e.payment_id = p.id and e.kind = 'refunded' and later.kind = 'paid_twice') as paid_after_refund
    from payment p join customer c on c.id = p.customer_id join bot b on b.id = p.bot_id order by p.id"""
_PAID_ATTEMPTS = """
    select a.payment_id, g.kind, g.seller_id, a.provider_id
    from charge_attempt a join gateway g on g.id = a.gateway_id where a.paid_at is not null"""
_REPORTED = """
    select d.pixel_id, c.event_id from conversion c join destination d on d.id = c.destination_id
    where c.state = 'delivered'"""
_GIVEN_AFTER_REFUND = """
    select 'message ' || m.id || ' gives what was given back' as example from message m
    join payment_event e on e.payment_id = m.payment_id and e.kind = 'refunded'
    where m.delivery_id is not null and m.created_at > e.at"""
_BOOKS = {
    "payment": "select id, payment_id, seller_id, status, amount_cents, gateway_id from payment order by id",
    "attempt": "select id, payment_id, gateway_id, provider_id, state, error from charge_attempt order by id",
    "event": "select payment_id, kind, data from payment_event order by id",
    "receipt": "select id, gateway_id, payment_id, authenticity, state, note, tries from webhook_receipt order by id",
    "delivery": "select id, payment_id, item, state, note from delivery order by id",
    "message": "select id, customer_id, delivery_id, payment_id, state, attempts, last_error from message order by id",
    "conversion": "select id, payment_id, state, attempts, last_error from conversion order by id",
    "job": "select id, task_name, args - 'trace' as args, status, attempts from procrastinate_jobs order by id",
    "timer": "select key, due_at from timer",
}
_NEXT = {
    "new": {"pending", "failed", "expired", "cancelled", "paid", "refunded"},
    "pending": {"failed", "expired", "cancelled", "paid", "refunded"},
    "failed": {"paid", "refunded"},
    "expired": {"paid", "refunded"},
    "cancelled": {"paid", "refunded"},
    "paid": {"refunded"},
    "refunded": set(),
}

_NO_WONDER = ("não encontrada", "blocked by the user", "HIDE_REQUESTER_MISSING", "USER_ALREADY_PARTICIPANT")


@dataclass(frozen=True)
class Money:
    """What came in for one of our payments. right: charges paid with the amount asked; back: those given back whole.

    late: a second code was paid after the first one's money had gone back. A sale that was given back is over: the
    seller is told that this money is owed.
    """

    right: tuple[Charge, ...] = ()
    back: tuple[Charge, ...] = ()
    any_back: bool = False
    late: bool = False

    @property
    def stays(self) -> bool:
        return len(self.right) > len(self.back) and not self.late


class Promises:
    """Watches one stage. doubts: sends whose answer was lost, each of which may be read twice."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.doubts = 0
        self._was: dict[int, str] = {}

    # Every moment

    def broken_now(self) -> list[str]:
        payments = self.stage.rows(_PAYMENTS)
        return [
            *(row["example"] for row in self.stage.rows(_as_examples(_BROKEN_AT_ANY_MOMENT))),
            *(row["example"] for row in self.stage.rows(_GIVEN_AFTER_REFUND)),
            *self._moved(payments),
            *self._paid(payments),
            *self._shown(payments),
            *self._delivered(payments),
            *self._reported(),
            *ledger.unkept(self.stage.world, self.stage.rows),
            *self.stage.mixed,
        ]

    def _moved(self, payments: list[Row]) -> Iterator[str]:
        """A status goes where it may, and never back."""
        for row in payments:
            before = self._was.get(row["id"], "new")
            if row["status"] not in _NEXT[before] | {before}:
                yield f"{row['payment_id']} went from {before} to {row['status']}"
            self._was[row["id"]] = row["status"]

    def _paid(self, payments: list[Row]) -> Iterator[str]:
        """Only what the bank says is paid, to this seller, in this amount, is paid; the same of what is given back."""
        money = self.money(payments)
        for row in payments:
            if row["was_paid"] and not money[row["id"]].right:
                yield f"{row['payment_id']} is paid here and not at the bank"
            if row["status"] == "refunded" and not money[row["id"]].any_back:
                yield f"{row['payment_id']} is given back here and not at the bank"
        right = {(row["id"], charge.id) for row in payments for charge in money[row["id"]].right}
        for attempt in self.stage.rows(_PAID_ATTEMPTS):
            if (attempt["payment_id"], attempt["provider_id"]) not in right:
                yield f"charge {attempt['provider_id']} is paid here, and not at the bank"

    def _shown(self, payments: list[Row]) -> Iterator[str]:
        """A code stands in the chat of whoever it was made for, and collects for the seller they bought from."""
        by_token = {row["webhook_token"]: row for row in payments}
        for charge in self.stage.charges():
            row = by_token.get(token_of(charge))
            if row is None or self.seller_of(charge).seller_id != row["seller_id"]:
                yield f"charge {charge.id} was made for nobody's payment"
            elif charge.cents != row["amount_cents"]:
                yield f"charge {charge.id} asks {charge.cents} cents for {row['payment_id']}"
        made_for = {c.pix_code: by_token[token_of(c)] for c in self.stage.charges() if token_of(c) in by_token}
        for talk in self.stage.world.telegram.dialogues():
            for code in (code for m in talk.messages if m.by_bot for code in m.marked("code")):
                row = made_for.get(code)
                if row is None or (row["username"], row["chat_id"]) != (talk.bot.username, str(talk.id)):
                    yield f"{talk.bot.username} {talk.id} was shown a code that is not theirs"

    def _delivered(self, payments: list[Row]) -> Iterator[str]:
        """What counts as delivered stands in its chat; and no chat has what nobody paid for there."""
        ours = ledger.delivered(self.stage.rows)
        read = ledger.seen(self.stage.world, {text for _, _, text in ours})
        yield from (f"{bot} {chat}: delivered here, not in the chat" for bot, chat, _ in ours - read)
        bought = {place for row in payments if self._money[row["id"]].right for place in _places(row)}
        goods = {text for row in payments for _, _, text in _places(row)}
        for bot, chat, text in ledger.seen(self.stage.world, goods):
            if (bot, chat, text) not in bought:
                yield f"{bot} {chat} got what was not paid for there: {text[:60]!r}"

    def _reported(self) -> Iterator[str]:
        taken = {(pixel, event_id) for pixel, _, event_id in self.stage.world.meta.ledger()}
        for row in self.stage.rows(_REPORTED):
            if (row["pixel_id"], row["event_id"]) not in taken:
                yield f"{row['event_id']} is reported here, and not at Meta"

    # At rest

    def broken_at_rest(self) -> list[str]:
        """After all was healed, told and done. Money that came in stays with its sale, and everything owed is given."""
        payments = self.stage.rows(_PAYMENTS)
        with self.stage._owner.connect() as connection:
            found = checker.check(connection, timedelta(0))
        return [
            *self.broken_now(),
            *(f"{finding.rule}: {finding.examples}" for finding in found),
            *self._settled(payments),
            *self._given(payments),
            *self._told(payments),
            *self._inside(payments),
            *self._read_twice(),
            *self._refused(),
        ]

    def _settled(self, payments: list[Row]) -> Iterator[str]:
        for row in payments:
            money = self._money[row["id"]]
            owed = "paid" if money.stays else "refunded" if row["was_paid"] else None
            if owed and row["status"] != owed:
                yield f"{row['payment_id']} should be {owed} and is {row['status']}"
            if row["status"] in ("new", "pending"):
                yield f"{row['payment_id']} never came to an end"

    def _given(self, payments: list[Row]) -> Iterator[str]:
        """Each paid sale once in the chat it was bought in."""
        owed = Counter(place for row in payments if self._money[row["id"]].stays for place in _places(row))
        given_back = Counter(
            place
            for row in payments
            if self._money[row["id"]].right and not self._money[row["id"]].stays
            for place in _places(row)
        )
        read = ledger.seen(self.stage.world, {text for _, _, text in owed | given_back})
        yield from (f"{bot} {chat} paid for {text[:60]!r} and did not get it" for bot, chat, text in owed - read)
        more = read - owed - given_back
        if more.total() > self.doubts:
            yield f"delivered more often than sold, with {self.doubts} sends in doubt: {dict(more)}"

    def _told(self, payments: list[Row]) -> Iterator[str]:
        """One Purchase at the seller's own pixel for each paid sale, with its amount; those given back may have one."""
        pixels = {shop.seller_id: shop.pixel_id for shop in self.stage.shops}
        sales = {
            (pixels[row["seller_id"]], f"purchase.{row['payment_id']}", row["amount_cents"]): self._money[
                row["id"]
            ].stays
            for row in payments
            if self._money[row["id"]].right
        }
        told = Counter(
            (pixel, event["event_id"], round(event["custom_data"]["value"] * 100))
            for pixel in self.stage.world.meta.pixels
            for event in self.stage.world.meta.deduplicated(pixel)
        )
        yield from (f"{what} was reported {count} times" for what, count in told.items() if count > 1)
        yield from (f"{what} was reported and not sold" for what in told.keys() - sales.keys())
        yield from (f"{what} was not reported" for what, stays in sales.items() if stays and what not in told)

    def _read_twice(self) -> Iterator[str]:
        """A message is sent again only when it was in doubt whether it had arrived."""
        read = sum(message.by_bot for talk in self.stage.world.telegram.dialogues() for message in talk.messages)
        sent = self.stage.rows("select count(*) as n from message where state = 'sent'")[0]["n"]
        if read - sent > self.doubts:
            yield f"{read} messages were read and {sent} sent, with {self.doubts} sends in doubt"

    def _inside(self, payments: list[Row]) -> Iterator[str]:
        """In a group is only who bought it, and whose money was not given back."""
        entitled = {
            (item["chat_id"], row["chat_id"])
            for row in payments
            if self._money[row["id"]].stays
            for item in row["items"]
            if item["kind"] == "group"
        }
        for group in self.stage.groups:
            for person in self.stage.people:
                if group.has_in(person.id) and (group.id, str(person.id)) not in entitled:
                    yield f"{person.id} is in group {group.title} and did not pay for it"

    def _refused(self) -> Iterator[str]:
        """Nobody was asked for what they do not do, but for charges that never were, chats that are blocked, and people
        at a group's door whom a run that was overtaken finds let in or turned away."""
        for refusal in self.stage.world.refusals:
            said = str(refusal.body)
            if not any(words in said for words in _NO_WONDER) and refusal.body != []:
                yield f"{refusal.call.method} {refusal.call.path[-40:]} was refused: {said[:200]}"

    # Money

    def books(self) -> list[str]:
        """All that tells how it came to this."""
        ours = [f"{name}: {row}" for name, sql in _BOOKS.items() for row in self.stage.rows(sql)]
        bank = [
            f"bank: {c.account} {c.id} asks {c.cents}, paid {c.paid_cents}, back {c.refunded_cents}, {c.ended or 'open'}"
            for c in self.stage.charges()
        ]
        return [*ours, *bank]

    def money(self, payments: list[Row]) -> dict[int, Money]:
        """By payment: what the bank holds for it at its own seller's accounts."""
        charges: dict[str, list[Charge]] = {}
        for charge in self.stage.charges():
            charges.setdefault(token_of(charge), []).append(charge)
        self._money = {row["id"]: self._money_for(row, charges.get(row["webhook_token"], [])) for row in payments}
        return self._money

    def _money_for(self, row: Row, charges: list[Charge]) -> Money:
        mine = [charge for charge in charges if self.seller_of(charge).seller_id == row["seller_id"]]
        right = tuple(charge for charge in mine if charge.paid_cents == row["amount_cents"])
        back = tuple(charge for charge in right if charge.refunded_cents >= (charge.paid_cents or 0))
        any_back = any(charge.paid and charge.refunded_cents >= (charge.paid_cents or 0) for charge in mine)
        return Money(right, back, any_back, late=bool(back) and row["paid_after_refund"])

    def seller_of(self, charge: Charge) -> Shop:
        number = charge.account.rpartition("-")[2]
        return next(shop for shop in self.stage.shops if shop.slug == f"promo{number}")


def token_of(charge: Charge) -> str:
    """Ours, as the company was told it: where a notice goes, or as the charge's reference."""
    return charge.reference or parse_qs(urlsplit(charge.notice_url).query)["t"][0]


def _places(row: Row) -> list[tuple[str, str, str]]:
    """Where the links that were bought have to stand; groups are checked by the checker."""
    said = [texts.delivered_link(row["offer_name"], item["url"]) for item in row["items"] if item["kind"] == "link"]
    return [(row["username"], row["chat_id"], parse_html(text)[0]) for text in said]


def _as_examples(union: str) -> str:
    return f"select example from ({union}) as broken (example)"
