"""A gateway's notice: signed, it is paid when it is answered; unsigned, it is kept and a job will ask the gateway."""

from __future__ import annotations

from benchmarks.levels import added, climb, floors, tail
from benchmarks.report import Report
from benchmarks.shops import Market
from benchmarks.stage import Stage, opened

MOST = 1500  # notices a level, each of a sale of its own


def run() -> Report:
    with opened() as stage:
        market = Market(stage)
        below = floors(stage)
        with stage.web() as web:
            signed = climb(stage, "settle (Woovi)", web, market.woovi_notices, MOST)
            alone = climb(stage, "settle, one account", web, market.alone().woovi_notices, MOST)
            hint = climb(stage, "keep (PushinPay)", web, market.pushinpay_notices, MOST)
        _check(stage)
    notes = [added(row, floor) for row in (signed, hint) for floor in below]
    rows = [*below, signed, alone, hint]
    return Report("Notices beside their floors (ms; CPU at 16 connections)", rows, notes, [tail(signed), tail(hint)])


def _check(stage: Stage) -> None:
    """Fast and wrong would be no figure: what was answered well was settled, or is about to be confirmed."""
    odd = stage.ask("select count(*) from webhook_receipt where state not in ('settled', 'confirming')")
    paid = stage.ask("select count(*) from payment where status = 'paid'")
    settled = stage.ask("select count(*) from webhook_receipt where state = 'settled'")
    if odd or paid != settled:
        raise RuntimeError(f"{odd} notices went astray; {settled} settled {paid} payments")
