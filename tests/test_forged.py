"""Forged notices: every lie that can be told at a notice address, told to every provider's.

A new provider inherits all of them from its payloads (see `gateway_contract`). The bank says "not paid" throughout, so
whatever ends as paid was believed for its own sake.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from bot_manager.settings import Settings
from tests.conftest import dispose
from tests.gateway_contract import BASE_URL, Contract, everyone
from tests.scene import Post, Scene
from web import create_app

KEPT, FORGED, UNKNOWN = 200, 401, 404


@dataclass(frozen=True)
class Lie:
    """tell: the posts, in order. answer, receipts, event: what has to come of each; receipts None where none is kept.

    needs: what a provider must have for it to be told: `signature`, or a place in its notices (`amount`, `test` …).
    """

    tell: Callable[[Scene], Post]
    needs: str = ""
    answer: int = KEPT
    receipt: str | None = "ignored"
    event: str | None = None


def _unsigned(how: Callable[[Scene, Post], Post]) -> Lie:
    """A lie about the proof that the provider makes."""
    return Lie(lambda scene: how(scene, scene.genuine()), "signature", FORGED, "forged", "forged_notice")


def _proof(scene: Scene, *values: str) -> list[tuple[str, str]]:
    return [*scene.plain_headers, *((scene.proof.SIGNATURE_HEADER, value) for value in values)]


def _right(scene: Scene, body: bytes) -> str:
    return str(dict(scene.signed(body))[scene.proof.SIGNATURE_HEADER])


def _canonical(body: bytes) -> bytes:
    return json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode()


def _after_rotation(scene: Scene, post: Post) -> Post:
    with scene.app.app_context():
        scene.know_keys(scene.proof.rotated_account())
    return replace(post, headers=scene.signed(post.body, key=scene.proof.OLD_KEY))


LIES = {
    # The proof is missing or is not theirs
    "no signature": _unsigned(lambda scene, post: replace(post, headers=_proof(scene))),
    "an empty signature": _unsigned(lambda scene, post: replace(post, headers=_proof(scene, ""))),
    "a cut signature": _unsigned(
        lambda scene, post: replace(post, headers=_proof(scene, _right(scene, post.body)[:-8]))
    ),
    "another's key": _unsigned(
        lambda scene, post: replace(post, headers=scene.signed(post.body, key=scene.proof.FOREIGN_KEY))
    ),
    "the old key after its end": _unsigned(_after_rotation),
    "a weaker algorithm": _unsigned(lambda scene, post: replace(post, headers=scene.proof.weaker(post.body))),
    "a signature of another body": _unsigned(
        lambda scene, post: replace(post, headers=scene.signed(scene.genuine("notice_pending").body))
    ),
    "the body written anew": _unsigned(
        lambda scene, post: replace(post, body=json.dumps(json.loads(post.body), indent=1).encode())
    ),
    "a signature of what was read, not of what was sent": _unsigned(
        lambda scene, post: replace(post, headers=scene.signed(_canonical(post.body)))
    ),
    "a byte more": _unsigned(lambda scene, post: replace(post, body=post.body + b" ")),
    "a signature that is no ASCII": _unsigned(lambda scene, post: replace(post, headers=_proof(scene, "é" * 40))),
    "two signatures, the right one last": _unsigned(
        lambda scene, post: replace(post, headers=_proof(scene, "AAAA", _right(scene, post.body)))
    ),
    "two signatures, the right one first": _unsigned(
        lambda scene, post: replace(post, headers=_proof(scene, _right(scene, post.body), "AAAA"))
    ),
    "no token in its header": Lie(
        lambda s: replace(s.genuine(), headers=()), "headers", FORGED, "forged", "forged_notice"
    ),
    "another token in its header": Lie(
        lambda s: replace(s.genuine(), headers=[(name, "ã") for name in s.contract.facts["notice_headers"]]),
        "headers",
        FORGED,
        "forged",
        "forged_notice",
    ),
    # The proof is right, and what it proves is not this sale
    "another amount": Lie(lambda s: s.genuine(amount=4989), "amount", receipt="mismatch", event="notice_mismatch"),
    "a thousandth of the amount": Lie(
        lambda s: s.genuine(amount=5), "amount", receipt="mismatch", event="notice_mismatch"
    ),
    "an amount that is no number": Lie(
        lambda s: s.genuine(amount="49,90"), "amount", receipt="mismatch", event="notice_mismatch"
    ),
    "another currency": Lie(
        lambda s: s.genuine(currency="USD"), "currency", receipt="mismatch", event="notice_mismatch"
    ),
    "another charge under this one's token": Lie(
        lambda s: s.genuine(id=s.second_id), "id", receipt="mismatch", event="notice_mismatch"
    ),
    "a charge that nobody made": Lie(
        lambda s: replace(s.genuine(id="never-made", reference="never-made"), query={}), "id", receipt="parked"
    ),
    "the provider's test environment": Lie(lambda s: s.genuine(test=s.contract.facts["test_word"]), "test"),
    "another account of the same seller": Lie(
        lambda s: replace(s.genuine(), url=s.second_address), "id", receipt="parked"
    ),
    "another seller's address": Lie(lambda s: replace(s.genuine(), url=s.other_address), "id", receipt="parked"),
    # The address is not the right one
    "a wrong secret": Lie(
        lambda s: replace(s.genuine(), url=s.address[:-1] + "_"), "", UNKNOWN, None, "wrong_webhook_secret"
    ),
    "a shorter secret": Lie(
        lambda s: replace(s.genuine(), url=s.address[:-1]), "", UNKNOWN, None, "wrong_webhook_secret"
    ),
    "the secret in other letters": Lie(
        lambda s: replace(
            s.genuine(), url=s.address.rpartition("/")[0] + "/" + s.address.rpartition("/")[2].swapcase()
        ),
        "",
        UNKNOWN,
        None,
        "wrong_webhook_secret",
    ),
    "another provider's address": Lie(
        lambda s: replace(s.genuine(), url=s.address.replace(f"/{s.contract.kind}/", "/another/")),
        "",
        UNKNOWN,
        None,
        "wrong_webhook_secret",
    ),
}


def _told() -> Iterator[Any]:
    for contract in everyone():
        places = {"", *contract.facts.get("notice", {})}
        places |= {"signature"} if contract.gateway.signed else set()
        places |= {"headers"} if "notice_headers" in contract.facts else set()
        for name, lie in LIES.items():
            if lie.needs in places:
                yield pytest.param(contract, lie, id=f"{contract.kind}-{name}")


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    kinds = {contract.kind: BASE_URL for contract in everyone()}
    made = create_app(replace(settings, gateway_urls=kinds))
    yield made
    dispose(made)


STATE = """
    select (select array_agg((id, status, paid_at)::text order by id) from payment) as payments,
     (select array_agg((id, state, paid_at, provider_id)::text order by id) from charge_attempt) as attempts,
     (select count(*) from delivery) as deliveries,
     (select count(*) from procrastinate_jobs where task_name in ('deliver', 'report_purchase')) as jobs,
     (select array_agg(kind order by id) from payment_event where kind <> 'mismatch') as story"""


def state(owner: Engine) -> Any:
    with owner.connect() as connection:
        return connection.execute(text(STATE)).one()


def column(owner: Engine, sql: str) -> list[str]:
    with owner.connect() as connection:
        return list(connection.execute(text(sql)).scalars())


@pytest.mark.parametrize(("contract", "lie"), list(_told()))
def test_a_lie_is_answered_kept_and_never_believed(app: Flask, owner: Engine, contract: Contract, lie: Lie) -> None:
    scene = Scene(app, contract)
    before = state(owner)

    answer = scene.post(lie.tell(scene))
    scene.work()

    signed = contract.gateway.signed
    hint = not signed and lie.answer == KEPT and lie.receipt != "parked"
    believed = _of_a_hint(scene, lie) if hint else lie.receipt
    assert answer == lie.answer
    assert state(owner) == before
    assert column(owner, "select state from webhook_receipt") == ([believed] if believed else [])
    if not hint:
        assert column(owner, "select kind from security_event") == ([lie.event] if lie.event else [])


def _of_a_hint(scene: Scene, lie: Lie) -> str:
    """What a notice that nobody has to believe ends as, once the bank was asked."""
    if "notice" not in scene.contract.facts:
        return "unreadable"
    return "mismatch" if lie.needs == "id" else "ignored"


def _with_a_refund() -> list[Any]:
    names = [(c, next(iter(c.names("notice_refunded")), None)) for c in everyone() if c.gateway.signed]
    return [pytest.param(contract, name, id=contract.kind) for contract, name in names if name]


@pytest.mark.parametrize(("contract", "name"), _with_a_refund())
def test_a_forged_refund_takes_nothing_back(app: Flask, owner: Engine, contract: Contract, name: str) -> None:
    scene = Scene(app, contract)
    scene.post(scene.genuine())
    before, refund = state(owner), scene.genuine(name)

    foreign = scene.signed(refund.body, key=scene.proof.FOREIGN_KEY)
    answers = [scene.post(replace(refund, headers=headers)) for headers in (scene.plain_headers, foreign)]
    scene.work()

    assert answers == [FORGED, FORGED]
    assert before.payments[0].startswith(f"({scene.payment_id},paid,")
    assert state(owner).payments == before.payments


SIGNED = [pytest.param(contract, id=contract.kind) for contract in everyone() if contract.gateway.signed]


@pytest.mark.parametrize("contract", SIGNED)
def test_a_true_notice_told_again_after_a_refund_pays_nothing(app: Flask, owner: Engine, contract: Contract) -> None:
    scene = Scene(app, contract)
    scene.post(scene.genuine())
    with owner.begin() as connection:
        connection.execute(text("update payment set status = 'refunded'"))
    before = state(owner)

    answers = [scene.post(scene.genuine()), scene.post(replace(scene.genuine(), query={"t": "another"}))]

    assert answers == [KEPT, KEPT]
    assert state(owner) == before


@pytest.mark.parametrize("contract", SIGNED)
def test_notices_that_contradict_each_other_at_the_same_moment_pay_once(
    app: Flask, owner: Engine, contract: Contract
) -> None:
    scene, many, barrier = Scene(app, contract), 16, Barrier(16)
    kinds = [name for name in ("notice_paid", "notice_pending", "notice_expired") if name in contract.names("notice")]
    posts = [scene.genuine(kinds[number % len(kinds)]) for number in range(many)]

    def tell(post: Post) -> int:
        barrier.wait()
        return scene.post(post)

    with ThreadPoolExecutor(many) as crowd:
        answers = list(crowd.map(tell, posts))

    assert answers == [KEPT] * many
    assert column(owner, "select status from payment order by id") == ["paid", "pending"]
    assert column(owner, "select kind from payment_event where kind = 'paid'") == ["paid"]
    assert column(owner, "select task_name::text from procrastinate_jobs where task_name = 'deliver'") == ["deliver"]
