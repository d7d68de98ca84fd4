"""Makes a seller's set-up be what the shop file says.

Names identify. What the file does not name any more is archived, never deleted, and comes back when it is named again;
a secret that it does not give stays as it is. Applied twice, the second time changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, insert, select, text

from bot_manager import addresses, sellers
from bot_manager.app import act_for, look_across_sellers, vault
from bot_manager.bots.connections import connect_job, let_go
from bot_manager.jobs.queue import enqueue
from bot_manager.payments import breakers
from bot_manager.security import doors
from bot_manager.security.vault import fingerprint, new_secret
from bot_manager.shop.conflicts import conflicts
from bot_manager.shop.file import BadShop, BotEntry, DestinationEntry, GatewayEntry, LinkEntry, OfferEntry, Shop
from bot_manager.shop.stored import held_access_token, held_credentials, held_token, seller_with, stored
from gateways.fields import same_secret
from models import Bot, BotOffer, BotState, Destination, DoorKind, Gateway, Link, Offer, Seller, db
from tracking.purchases import resume

# Any fixed number. Set-ups are changed one at a time, so that what was checked still holds when it is written.
_ONE_AT_A_TIME = text("select pg_advisory_xact_lock(7263002)")


def apply(shop: Shop) -> dict[str, Any]:
    """Writes in the current transaction, which the caller commits; acts for the seller from then on.

    Answers the ids and addresses of everything in the file; of a new seller also `api_key` and `login_url`, which are
    told this once (`login_url` is null when that e-mail logs in already). Raises BadShop, with nothing written, for
    what can't be next to what is stored.
    """
    db.session.execute(_ONE_AT_A_TIME)
    look_across_sellers()
    seller = seller_with(shop.seller.email)
    if mistakes := conflicts(shop, seller.id if seller else None):
        raise BadShop(mistakes)
    told = _open(seller.id) if seller else _create(shop)
    return {"seller": told, **_write(shop, told["id"])}


def _open(seller_id: int) -> dict[str, Any]:
    act_for(seller_id)
    return {"id": seller_id}


def _create(shop: Shop) -> dict[str, Any]:
    new = sellers.create(shop.seller.name, shop.seller.email)
    login_url = addresses.login_url(new.invitation) if new.invitation else None
    return {"id": new.seller_id, "api_key": new.api_key, "login_url": login_url}


def _write(shop: Shop, seller_id: int) -> dict[str, Any]:
    seller = db.session.get_one(Seller, seller_id)
    _set(seller, shop.seller, "name", "timezone", "document", "address", "support", "terms_url")
    gateways = _write_gateways(shop.gateways, seller_id)
    offers = _write_offers(shop.offers, seller_id)
    bots = _write_bots(shop.bots, offers, seller_id)
    links = _write_links(shop.links, bots, seller_id)
    destinations = _write_destinations(shop.destinations, bots, seller_id)
    return {
        "gateways": {name: _told_gateway(gateway) for name, gateway in gateways.items()},
        "bots": {key: _told_bot(bot) for key, bot in bots.items()},
        "links": {slug: {"url": addresses.link_url(slug)} for slug in links},
        "destinations": {name: {"id": destination.id} for name, destination in destinations.items()},
    }


def _told_gateway(gateway: Gateway) -> dict[str, Any]:
    return {"id": gateway.id, "webhook_url": addresses.get_webhook_url(gateway)}


def _told_bot(bot: Bot) -> dict[str, Any]:
    return {"id": bot.id, "username": bot.username, "webhook_url": addresses.bot_webhook_url(bot)}


def _set(row: object, entry: object, *names: str) -> None:
    for name in names:
        setattr(row, name, getattr(entry, name))


def _archive(rows: Iterable[Gateway | Offer | Bot | Link | Destination]) -> None:
    for row in rows:
        row.archived_at = row.archived_at or datetime.now(UTC)


# Gateways ---------------------------------------------------------------------------------------------------------


def _write_gateways(entries: Iterable[GatewayEntry], seller_id: int) -> dict[str, Gateway]:
    """The door of an archived account stays: a late notice of it is still kept."""
    existing = stored(Gateway, "name", seller_id)
    written = {entry.name: _write_gateway(entry, existing.get(entry.name), seller_id) for entry in entries}
    _archive(gateway for name, gateway in existing.items() if name not in written and not gateway.own)
    return written


_SET = ("priority", "weight", "active", "fee_fixed_cents", "fee_basis_points")


def _write_gateway(entry: GatewayEntry, gateway: Gateway | None, seller_id: int) -> Gateway:
    if gateway is None:
        gateway = Gateway(seller_id=seller_id)
        _set(gateway, entry, "name", "kind", *_SET)
        sellers.add_gateway(gateway, _merged({}, entry.credentials))
    elif not gateway.own:  # our sandbox, named in a file, is only told of
        if gateway.archived_at or gateway.active != entry.active:
            breakers.reset(gateway)
        _set(gateway, entry, *_SET)
        gateway.archived_at = None
        _write_credentials(gateway, entry.credentials)
    return gateway


def _write_credentials(gateway: Gateway, given: Mapping[str, str]) -> None:
    held = held_credentials(gateway)
    if (merged := _merged(held, given)) != held:
        gateway.credentials_sealed = vault().seal_json(merged, "gateway.credentials", gateway.seller_id)
        breakers.reset(gateway)


def _merged(held: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in {**held, **given}.items() if value}


# Offers -----------------------------------------------------------------------------------------------------------


def _write_offers(entries: Iterable[OfferEntry], seller_id: int) -> dict[str, Offer]:
    existing = stored(Offer, "key", seller_id)
    written = {entry.key: _write_offer(entry, existing.get(entry.key), seller_id) for entry in entries}
    _archive(offer for key, offer in existing.items() if key not in written)
    db.session.flush()
    return written


def _write_offer(entry: OfferEntry, offer: Offer | None, seller_id: int) -> Offer:
    offer = offer or Offer(seller_id=seller_id, key=entry.key)
    _set(offer, entry, "name", "price_cents")
    offer.delivers = [dict(item) for item in entry.delivers]
    offer.archived_at = None
    db.session.add(offer)
    return offer


# Bots -------------------------------------------------------------------------------------------------------------


def _write_bots(entries: Iterable[BotEntry], offers: Mapping[str, Offer], seller_id: int) -> dict[str, Bot]:
    existing, wanted = stored(Bot, "key", seller_id), {entry.key: entry for entry in entries}
    for key, bot in existing.items():
        _let_go(bot, wanted.get(key))
    db.session.flush()
    written = {key: _write_bot(entry, existing.get(key), seller_id) for key, entry in wanted.items()}
    for key, bot in written.items():
        _show(bot, [offers[offer].id for offer in wanted[key].offers])
    return written


def _let_go(bot: Bot, entry: BotEntry | None) -> None:
    """Frees the token of a bot that is archived or changes it, so that another of this file can have it."""
    if entry is None:
        if bot.archived_at is None:
            let_go(bot)
        _archive([bot])
        bot.state, bot.token_hash = BotState.ARCHIVED, None
    elif entry.token and not same_secret(fingerprint(entry.token), bot.token_hash or ""):
        bot.token_hash = None


def _write_bot(entry: BotEntry, bot: Bot | None, seller_id: int) -> Bot:
    bot = bot or _new_bot(entry, seller_id)
    _set(bot, entry, "channel", "test", "funnel", "pix_minutes")
    connect = _take_token(bot, entry.token)
    bot.archived_at = None
    db.session.flush()
    if connect:
        enqueue(connect_job(bot))
    return bot


def _new_bot(entry: BotEntry, seller_id: int) -> Bot:
    bot = Bot(seller_id=seller_id, key=entry.key, public_id=new_secret(), state=BotState.UNCONNECTED)
    db.session.add(bot)
    db.session.flush()
    doors.put(DoorKind.BOT, bot.public_id, seller_id, bot.id, secret=doors.telegram_secret(bot.public_id))
    return bot


def _take_token(bot: Bot, given: str | None) -> bool:
    """True when the bot has to be connected: its token is new, or it is back from the archive."""
    held = held_token(bot)
    wanted = given or held
    if wanted is None:
        bot.state = BotState.UNCONNECTED
        return False
    if wanted == held and bot.archived_at is None:
        return False
    if wanted != held:
        _swap_token(bot, held, wanted)
    bot.token_hash, bot.state, bot.state_note = fingerprint(wanted), BotState.CONNECTING, None
    return True


def _swap_token(bot: Bot, held: str | None, wanted: str) -> None:
    bot.token_sealed = vault().seal(wanted, "bot.token", bot.seller_id)
    if held is None:
        return
    let_go(bot, held)
    bot.version += 1
    if held.partition(":")[0] != wanted.partition(":")[0]:
        bot.username = bot.name = None  # another bot: links must not lead to the old one until this one is known


def _show(bot: Bot, offer_ids: list[int]) -> None:
    """Makes these the bot's offers, in this order."""
    shown = select(BotOffer.offer_id).where(BotOffer.bot_id == bot.id).order_by(BotOffer.position)
    if list(db.session.scalars(shown)) == offer_ids:
        return
    db.session.execute(delete(BotOffer).where(BotOffer.bot_id == bot.id))
    rows = [
        {"bot_id": bot.id, "offer_id": offer_id, "seller_id": bot.seller_id, "position": position}
        for position, offer_id in enumerate(offer_ids, 1)
    ]
    if rows:
        db.session.execute(insert(BotOffer), rows)


# Links and destinations -------------------------------------------------------------------------------------------


def _write_links(entries: Iterable[LinkEntry], bots: Mapping[str, Bot], seller_id: int) -> dict[str, Link]:
    """An archived link's door goes, so that its address is answered 404."""
    existing = stored(Link, "slug", seller_id)
    written = {entry.slug: _write_link(entry, existing.get(entry.slug), bots[entry.bot]) for entry in entries}
    gone = [link for slug, link in existing.items() if slug not in written and link.archived_at is None]
    _archive(gone)
    for link in gone:
        doors.remove(DoorKind.LINK, link.slug)
    return written


def _write_link(entry: LinkEntry, link: Link | None, bot: Bot) -> Link:
    closed = link is None or link.archived_at is not None
    link = link or Link(seller_id=bot.seller_id, slug=entry.slug)
    link.bot_id, link.mode, link.archived_at = bot.id, entry.mode, None
    db.session.add(link)
    if closed:
        db.session.flush()
        doors.put(DoorKind.LINK, link.slug, link.seller_id, link.id)
    return link


def _write_destinations(
    entries: Iterable[DestinationEntry], bots: Mapping[str, Bot], seller_id: int
) -> dict[str, Destination]:
    existing = stored(Destination, "name", seller_id)
    written = {}
    for entry in entries:
        destination = existing.get(entry.name) or Destination(seller_id=seller_id, name=entry.name, kind=entry.kind)
        destination.bot_ids = None if entry.bots is None else [bots[key].id for key in entry.bots]
        written[entry.name] = _write_destination(entry, destination)
    _archive(destination for name, destination in existing.items() if name not in written)
    db.session.flush()
    return written


def _write_destination(entry: DestinationEntry, destination: Destination) -> Destination:
    _set(destination, entry, "pixel_id", "test_event_code")
    goes_on, destination.archived_at = destination.archived_at is not None, None
    if entry.access_token and not same_secret(entry.access_token, _held(destination) or ""):
        sealed = vault().seal(entry.access_token, "destination.access_token", destination.seller_id)
        goes_on, destination.access_token_sealed = True, sealed
    db.session.add(destination)
    if goes_on:
        db.session.flush()
        resume(destination)
    return destination


def _held(destination: Destination) -> str | None:
    return held_access_token(destination) if destination.access_token_sealed else None
