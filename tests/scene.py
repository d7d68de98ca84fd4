"""One provider's two shops, made from its payloads alone: for tests of what comes in at a notice address.

Ana has two open sales at the provider and a second account there, Caio has an account there too, and the bank says
"not paid" to every question: whatever is believed without its word was believed wrongly.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import responses
from flask import Flask
from sqlalchemy import delete, select

from bot_manager import sellers
from bot_manager.addresses import get_webhook_url
from bot_manager.app import Threads
from bot_manager.channels.telegram import Telegram
from bot_manager.jobs import queue
from bot_manager.jobs.kinds import Runtime, runs
from bot_manager.security.vault import new_secret
from bot_manager.shop import example
from gateways.base import Account
from models import Bot, ChargeAttempt, Gateway, Offer, ProviderKey, db
from tests import panel_world
from tests.gateway_contract import BASE_URL, Contract, put

NOWHERE = "http://127.0.0.1:9"

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Post:
    """One request to a notice address. headers: a name may stand there twice."""

    url: str
    body: bytes
    headers: Headers = ()
    query: Mapping[str, str] = field(default_factory=dict)


class Scene:
    def __init__(self, app: Flask, contract: Contract) -> None:
        self.app, self.contract = app, contract
        self.proof: Any = contract.proof() if contract.gateway.signed else SimpleNamespace()
        self.account = self.proof.signed_account() if contract.gateway.signed else contract.account
        self.reference = contract.facts.get("reference", "a-reference")
        self.second_id = str(uuid.uuid4())
        with app.app_context():
            self.know_keys(self.account)
            bot, gateway = self._shop("Ana")
            self.seller_id, self.address = bot.seller_id, get_webhook_url(gateway)
            self.payment_id = self._sale(bot, gateway, self.reference, contract.facts.get("provider_id", "an-id"))
            self._sale(bot, gateway, new_secret(), self.second_id)
            self.second_address = get_webhook_url(self._account(bot.seller_id, "reserva"))
            db.session.commit()
        with app.app_context():
            _, theirs = self._shop("Caio")
            self.other_address = get_webhook_url(theirs)
            db.session.commit()

    # What the provider would send

    def genuine(self, name: str = "notice_paid", **changes: Any) -> Post:
        """A true notice about Ana's first sale, signed where the provider signs. changes: what the body says instead."""
        body = json.dumps(self.said(name, **changes)).encode()
        return Post(self.address, body, self.signed(body), {"t": self.reference})

    def said(self, name: str = "notice_paid", **changes: Any) -> Any:
        name = self.contract.facts.get("hint", name) if name == "notice_paid" else name
        if name not in self.contract.names("notice"):
            return {"id": "an-id", "status": "paid", "value": 4990}  # the provider sends none
        payload = self.contract.load(name)
        for what, value in changes.items():
            for path in self.contract.facts["notice"].get(what, ()):
                put(payload, path, value)
        return payload

    def signed(self, body: bytes, **how: Any) -> Headers:
        proof = self.proof.sign(body, **how) if self.contract.gateway.signed else {}
        return [*self.plain_headers, *proof.items()]

    @property
    def plain_headers(self) -> Headers:
        """All but the signature."""
        return [("Content-Type", "application/json"), *self.contract.facts.get("notice_headers", {}).items()]

    def know_keys(self, account: Account) -> None:
        """The provider's keys are these from now on, and no others."""
        db.session.execute(delete(ProviderKey).where(ProviderKey.kind == self.contract.kind))
        db.session.add_all(ProviderKey(kind=self.contract.kind, pem=pem) for pem in account.public_keys)
        db.session.commit()

    # What we do about it

    def post(self, post: Post) -> int:
        path = re.sub(r"^https?://[^/]+", "", post.url)
        answer = self.app.test_client().post(
            path, data=post.body, headers=list(post.headers), query_string=dict(post.query)
        )
        return answer.status_code

    def work(self) -> None:
        """Runs the money's jobs."""
        with silent_bank(self.contract):
            asyncio.run(self._work())

    async def _work(self) -> None:
        threads = Threads(self.app, 2)
        url = self.app.extensions["settings"].database_url
        async with Telegram(NOWHERE) as telegram:
            await queue.Worker(url, runs(Runtime(threads, telegram)), lanes=("money",)).drain()
        threads.executor.shutdown()

    # How it is made

    def _shop(self, name: str) -> tuple[Bot, Gateway]:
        seller_id = sellers.create(name, f"{uuid.uuid4().hex}@example.com").seller_id
        bot = example.add(seller_id)
        return bot, self._account(seller_id, "principal")

    def _account(self, seller_id: int, name: str) -> Gateway:
        if self.contract.gateway.test_only:
            return db.session.scalars(select(Gateway).where(Gateway.own)).one()
        gateway = Gateway(seller_id=seller_id, name=name, kind=self.contract.kind, priority=1)
        sellers.add_gateway(gateway, dict(self.account.credentials))
        return gateway

    def _sale(self, bot: Bot, gateway: Gateway, reference: str, provider_id: str) -> int:
        offer = db.session.scalars(select(Offer)).one()
        test = self.contract.gateway.test_only
        payment = panel_world.sale(panel_world.customer(bot, "Rita"), offer, gateway, status="pending", test=test)
        payment.webhook_token = reference
        attempt = db.session.scalars(select(ChargeAttempt).where(ChargeAttempt.payment_id == payment.id)).one()
        attempt.provider_id = self.contract.gateway.normal_id(provider_id)
        return payment.id


def silent_bank(contract: Contract) -> responses.RequestsMock:
    net = responses.RequestsMock(assert_all_requests_are_fired=False)
    pending = contract.load("charge_pending") if "charge_pending" in contract.names("charge") else {}
    for call, answer in contract.facts.get("parts", {}).items():
        method, _, path = call.partition(" ")
        if not isinstance(answer, str):
            net.add(method, re.compile(re.escape(BASE_URL + path)), json=answer)
    net.add("GET", re.compile(f"{BASE_URL}/.*"), json=pending)
    return net
