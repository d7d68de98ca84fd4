"""Our books beside those of the world outside: the bank's, the chats as customers see them, the ads account's.

`rows` is `Line.rows` or `Product.rows`: the owner's view of the database. For sales that are done; sales in test mode
are in nobody's books but ours, and left out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bot_manager.channels import telegram
from bot_manager.funnels import texts
from gateways.base import Authenticity
from tests.world import Entry, World
from tests.world.notices import Notice
from tests.world.telegram.html import parse_html

Rows = Callable[..., list[dict[str, Any]]]
Said = Counter[tuple[str, str, str]]  # (bot's username, chat, plain text): how often

_ATTEMPTS = """
    select g.kind, a.provider_id, a.state, p.payment_id, p.status, p.amount_cents
    from charge_attempt a join payment p on p.id = a.payment_id join gateway g on g.id = a.gateway_id
    where not p.test"""
_PAID = "select payment_id from payment where status = 'paid' and not test"
_DELIVERED = """
    select b.username, c.chat_id, p.offer_name, p.items -> d.item::int ->> 'url' as url
    from delivery d join payment p on p.id = d.payment_id join customer c on c.id = p.customer_id
    join bot b on b.id = c.bot_id where d.state = 'delivered' and c.channel = 'telegram' and not p.test
    and p.items -> d.item::int ->> 'kind' = 'link'"""
_REPORTS = """
    select d.pixel_id, p.payment_id, p.amount_cents from payment p join destination d on d.seller_id = p.seller_id
    and d.archived_at is null and (d.bot_ids is null or p.bot_id = any (d.bot_ids))
    where p.status = 'paid' and not p.test and d.kind = 'meta'"""


def differences(world: World, rows: Rows) -> list[str]:
    """Where the books disagree; none when all is well. Messages that came twice are counted in `repeated`."""
    return [*_bank(world, rows), *_chats(world, rows), *_ads(world, rows)]


def _bank(world: World, rows: Rows) -> Iterator[str]:
    """Money at the bank and paid sales here: one for one."""
    attempts = rows(_ATTEMPTS)
    for entry in world.paid():
        ours = [a for a in attempts if (a["kind"], a["provider_id"]) == (entry.gateway, entry.provider_id)]
        if problem := _problem(entry, ours):
            yield f"{entry.gateway} {entry.provider_id}: {problem}"
    known = {(entry.gateway, entry.provider_id) for entry in world.paid()}
    claimed = [a for a in attempts if a["state"] == "paid"]
    yield from (
        f"{a['payment_id']}: no bank knows of it" for a in claimed if (a["kind"], a["provider_id"]) not in known
    )
    times = Counter(a["payment_id"] for a in claimed)
    yield from (
        f"{row['payment_id']}: paid {times[row['payment_id']]} times"
        for row in rows(_PAID)
        if times[row["payment_id"]] != 1
    )


def _problem(entry: Entry, ours: list[dict[str, Any]]) -> str:
    if len(ours) != 1:
        return f"{len(ours)} charges of ours"
    found = (ours[0]["state"], ours[0]["status"], ours[0]["amount_cents"])
    return "" if found == ("paid", "paid", entry.paid_cents) else f"paid {entry.paid_cents} there, here {found}"


def _chats(world: World, rows: Rows) -> Iterator[str]:
    """What was delivered stands in its customer's chat, and in no other."""
    ours = delivered(rows)
    read = seen(world, {text for _, _, text in ours})
    yield from (f"{bot} {chat}: delivered here, not in the chat" for bot, chat, _ in ours - read)
    yield from (f"{bot} {chat}: got what is another's" for bot, chat, _ in read.keys() - ours.keys())


def repeated(world: World, rows: Rows) -> int:
    """How many deliveries a customer read twice: at most one for each send that a kill cut off."""
    ours = delivered(rows)
    read = seen(world, {text for _, _, text in ours})
    return sum(max(0, read[place] - times) for place, times in ours.items())


def delivered(rows: Rows) -> Said:
    return Counter((row["username"], row["chat_id"], _text(row)) for row in rows(_DELIVERED))


def _text(row: dict[str, Any]) -> str:
    """What stands in the chat; the message's own row is sealed."""
    return parse_html(texts.delivered_link(row["offer_name"], row["url"]))[0]


def seen(world: World, texts: set[str]) -> Said:
    return Counter(
        (talk.bot.username, str(talk.id), message.text)
        for talk in world.telegram.dialogues()
        for message in list(talk.messages)
        if message.by_bot and message.text in texts
    )


def _ads(world: World, rows: Rows) -> Iterator[str]:
    """One Purchase a paid sale and pixel, with its amount, and no others."""
    ours = {(row["pixel_id"], f"purchase.{row['payment_id']}", row["amount_cents"]) for row in rows(_REPORTS)}
    theirs = [
        (pixel, event.get("event_id"), round(event["custom_data"]["value"] * 100))
        for pixel in world.meta.pixels
        for event in world.meta.deduplicated(pixel)
    ]
    for what, count in Counter(theirs).items():
        if count != 1 or what not in ours:
            yield f"{what}: {count} at Meta, {int(what in ours)} here"
    yield from (f"{what}: not at Meta" for what in ours - set(theirs))


# What was acknowledged --------------------------------------------------------------------------------------------


def unkept(world: World, rows: Rows) -> list[str]:
    """Notices and updates that were acknowledged and are not here: there must be none, whatever was killed."""
    digests = {row["digest"] for row in rows("select digest from webhook_receipt")}
    sent = [*world.pushinpay.notices, *world.woovi.notices]
    lost = [f"notice {n.body[:80]!r}" for n in sent if _acknowledged(n) and not digests & _digests(n)]
    kept = {(row["username"], row["event_key"]) for row in rows(_EVENTS)}
    taken = [
        (bot.username, f"update:{u['update_id']}")
        for bot in world.telegram.bots.values()
        for u in world.telegram.taken(bot)
        if telegram.chat_id_of(u)  # what belongs to no private chat is nothing that we act on
    ]
    return [*lost, *(f"{bot} {key}" for bot, key in taken if (bot, key) not in kept)]


_EVENTS = "select b.username, i.event_key from inbox i join bot b on b.id = i.bot_id"


def _acknowledged(notice: Notice) -> bool:
    return any(isinstance(answer, int) and 200 <= answer < 300 for answer in notice.answers)


def _digests(notice: Notice) -> set[str]:
    """What the receipt's digest may be: it depends on what the notice's proof was worth when it came."""
    token = parse_qs(urlsplit(notice.url).query).get("t", [""])[0]
    return {hashlib.sha256(notice.body + b"\0" + token.encode() + a.encode()).hexdigest() for a in Authenticity}
