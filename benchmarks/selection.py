"""Choosing among fifty gateways: seeing them, taking the turn, ordering, writing down why. This process's CPU, beside
the two statements that keep a turn and a row without a word of why."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

from sqlalchemy import select, text

from benchmarks.report import Goal, Report
from benchmarks.shops import CENTS, Market
from benchmarks.stage import opened
from bot_manager import sellers
from bot_manager.app import act_for, create_core
from bot_manager.payments import decisions
from gateways import selector
from gateways.base import Payer
from models import Gateway, Payment, db

GATEWAYS = 50
RUNS = 400

_FLOOR = (
    text("update seller set turn = turn + 1 where id = :seller returning turn"),
    text("insert into payment_event (seller_id, payment_id, kind) values (:seller, :payment, 'decided')"),
)


def run() -> Report:
    with opened() as stage:
        sale = Market(stage).alone().sales(1, "woovi")[0]
        with create_core(stage.settings).app_context():
            act_for(sale.shop.seller_id)
            rows = _measured(sale.shop.seller_id, sale.reference)
            db.session.remove()
            db.engine.dispose()
    goals = [Goal(f"choosing among {GATEWAYS}, the pure part", rows[2]["CPU-ms"], 1.0, "CPU-ms")]
    goals.append(Goal(f"a decision among {GATEWAYS}, written", rows[1]["CPU-ms"] - rows[0]["CPU-ms"], 1.0, "CPU-ms"))
    return Report(f"A decision among {GATEWAYS} gateways", rows, goals=goals)


def _measured(seller_id: int, reference: str) -> list[dict[str, Any]]:
    payment = db.session.scalars(select(Payment).where(Payment.webhook_token == reference)).one()
    seen = _fifty(seller_id)
    ids = {"seller": seller_id, "payment": payment.id}

    def floor(_: int) -> None:
        for statement in _FLOOR:
            db.session.execute(statement, ids)
        db.session.rollback()

    def decision(_: int) -> None:
        decisions.decide(payment, Payer())
        db.session.rollback()
        db.session.refresh(payment)

    def refresh(_: int) -> None:
        db.session.rollback()
        db.session.refresh(payment)

    apart = _row("(loading the sale again, taken off)", refresh)["CPU-ms"]
    whole = _row("the decision, in its transaction", decision)
    return [
        _row("floor: a turn and a row", floor),
        {**whole, "CPU-ms": whole["CPU-ms"] - apart},
        _row("  of which choosing, without the database", lambda turn: decisions.order(seen, turn)),
        _row("  one `order()`", lambda turn: selector.order([one.candidate for one in seen], turn)),
    ]


def _fifty(seller_id: int) -> list[decisions.Seen]:
    random = Random(50)
    db.session.execute(text("update gateway set active = false where not own"))
    for number in range(GATEWAYS):
        weight = random.randint(1, 1000)
        sellers.add_gateway(Gateway(seller_id=seller_id, name=f"{number}", kind="pushinpay", weight=weight), {})
    db.session.commit()
    return decisions.look(test=False, amount_cents=CENTS, payer=Payer(), now=datetime.now(UTC))


def _row(what: str, work: Callable[[int], object]) -> dict[str, Any]:
    for turn in range(20):
        work(turn)
    cpu, wall = time.process_time(), time.perf_counter()
    for turn in range(RUNS):
        work(turn * 977)
    used, took = time.process_time() - cpu, time.perf_counter() - wall
    return {"per sale": what, "CPU-ms": used * 1000 / RUNS, "ms": took * 1000 / RUNS}
