"""What of a shop file can't be, given what is stored: a slug of someone else's, a token in use, a secret never given.

Read across sellers, before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select

import gateways
from bot_manager.security.vault import fingerprint
from bot_manager.shop.file import BotEntry, GatewayEntry, Shop
from bot_manager.shop.mistakes import Mistake
from bot_manager.shop.stored import held_credentials, held_token, stored
from models import Bot, Destination, Gateway, Link, db


def conflicts(shop: Shop, seller_id: int | None) -> list[Mistake]:
    """seller_id: None when the file makes a new seller."""
    return [
        *_gateway_conflicts(shop, stored(Gateway, "name", seller_id)),
        *_token_conflicts(shop, stored(Bot, "key", seller_id)),
        *_slug_conflicts(shop, seller_id),
        *_destination_conflicts(shop, stored(Destination, "name", seller_id)),
    ]


def _gateway_conflicts(shop: Shop, existing: dict[str, Gateway]) -> Iterator[Mistake]:
    for entry in shop.gateways:
        gateway = existing.get(entry.name)
        if gateway and gateway.kind != entry.kind:
            yield _other_kind(entry.line, f"gateways[{entry.name}].kind", gateway.kind)
            continue
        for name in _absent_credentials(entry, held_credentials(gateway) if gateway else {}):
            key = f"gateways[{entry.name}].credentials.{name}"
            yield Mistake(entry.line, key, "falta esta credencial", "Cole a que o provedor dá; nenhuma está guardada.")


def _absent_credentials(entry: GatewayEntry, held: dict[str, str]) -> list[str]:
    credentials = gateways.get(entry.kind).credentials
    return [one.name for one in credentials if one.required and not {**held, **entry.credentials}.get(one.name)]


def _other_kind(line: int, key: str, kind: str) -> Mistake:
    fix = "Dê outro nome à conta nova; a antiga fica arquivada."
    return Mistake(line, key, f"este nome já é de uma conta {kind}", fix)


def _token_conflicts(shop: Shop, existing: dict[str, Bot]) -> Iterator[Mistake]:
    """A token in use by a bot that this file leaves alone; one that it archives or changes gives its token up."""
    tokens = {entry.key: _token_hash(entry, existing.get(entry.key)) for entry in shop.bots}
    own = {bot.id: key for key, bot in existing.items()}
    holders = select(Bot.id, Bot.token_hash).where(Bot.token_hash.in_([one for one in tokens.values() if one]))
    holder = {row.token_hash: row.id for row in db.session.execute(holders)}
    claimed: set[str] = set()
    for entry in shop.bots:
        token = tokens[entry.key]
        if token is None:
            continue
        held_elsewhere = token in holder and holder[token] not in own
        if held_elsewhere or token in claimed:
            fix = "Cada bot precisa do seu token: crie outro no @BotFather."
            yield Mistake(entry.line, f"bots[{entry.key}].token", "este token já é de outro bot", fix)
        claimed.add(token)


def _token_hash(entry: BotEntry, bot: Bot | None) -> str | None:
    token = entry.token or (held_token(bot) if bot else None)
    return fingerprint(token) if token else None


def _slug_conflicts(shop: Shop, seller_id: int | None) -> Iterator[Mistake]:
    slugs = select(Link.slug).where(Link.slug.in_([entry.slug for entry in shop.links]))
    taken = set(db.session.scalars(slugs.where(Link.seller_id != (seller_id or 0))))
    for entry in shop.links:
        if entry.slug in taken:
            fix = "Escolha outro: o endereço vale para todas as lojas desta instalação."
            yield Mistake(entry.line, f"links[{entry.slug}].slug", "este slug já é de outra loja", fix)


def _destination_conflicts(shop: Shop, existing: dict[str, Destination]) -> Iterator[Mistake]:
    for entry in shop.destinations:
        destination = existing.get(entry.name)
        if destination is None and entry.access_token is None:
            key = f"destinations[{entry.name}].access_token"
            yield Mistake(
                entry.line, key, "falta o token de acesso", "Cole o que a plataforma dá; nenhum está guardado."
            )
        elif destination and destination.kind != entry.kind:
            yield _other_kind(entry.line, f"destinations[{entry.name}].kind", destination.kind)
