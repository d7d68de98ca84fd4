"""The load that is held with nothing lost, and a burst on top of half of it.

Notices fall due at a rate, whether or not others are done, and each rate is held for a while; the lag is how long after
the last notice everything is out, at Telegram and at Meta. A rate is held while that stays under 30 s in two minutes,
which is an eighth of the time. HOLD=120 for the whole two minutes of each rate. Beside it: one durable insert.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from benchmarks import load
from benchmarks.levels import FLOOR_TABLE, posts
from benchmarks.report import Report
from benchmarks.shops import Market
from benchmarks.stage import GUNICORN, Stage, opened
from bot_manager.ops.checker import check

HOLD_S = float(os.environ.get("HOLD", "15"))
LAG = 30 / 120  # of the time that a rate is held
BURST_S = 10.0
FIRST = 200  # notices, to learn about where to begin
KINDS = ("sendMessage", "events")
STEPS = (0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0)


@dataclass(frozen=True)
class Run:
    """lag: seconds after the last notice until all was out. lost, doubled: messages and events, by what was due."""

    result: load.Result
    lag: float = 0.0
    lost: int = 0
    doubled: int = 0

    @property
    def is_whole(self) -> bool:
        return not (self.result.failed or self.lost or self.doubled)

    def row(self, what: str, rate: float) -> dict[str, Any]:
        answered = {f"p{percent} ms": self.result.percentile(percent) for percent in (50, 99)}
        told = {"refused": self.result.failed, "lost": self.lost, "doubled": self.doubled, "all out after s": self.lag}
        return {"load": what, "notices/s": rate, **answered, **told}


def run() -> Report:
    with opened() as stage:
        market = Market(stage)
        rows = [_floor(stage)]
        with stage.web() as web, stage.worker():
            rows += _climb(stage, market, web.port)
            held = max((row["notices/s"] for row in rows if row["load"] == "held"), default=0.0)
            rows += _burst(stage, market, web.port, held / 2) if held else []
            with stage.owner.connect() as connection:
                findings = check(connection, timedelta(minutes=1))
    notes = [
        f"each rate for {HOLD_S:.0f} s; held: all out within {HOLD_S * LAG:.1f} s of the last, nothing refused or lost",
        f"the highest rate held: {held:.1f} notices a second; the checker found {findings or 'nothing'}",
    ]
    return Report("The load held with nothing lost", rows, notes)


def _floor(stage: Stage) -> dict[str, Any]:
    stage.run(f"{FLOOR_TABLE}; grant insert on floor to bot_manager")
    with stage.served(*GUNICORN, "benchmarks.floor:asgi") as server:
        result = load.closed(server.port, posts("/insert", 10000), 16, 3.0)
    return Run(result).row("floor: one durable insert, 16 connections", result.rate)


def _climb(stage: Stage, market: Market, port: int) -> Iterator[dict[str, Any]]:
    """Rate after rate, until one is not held."""
    first = _all_out(stage, market, lambda notices: load.closed(port, notices, 16), FIRST)
    gives = FIRST / (first.result.seconds + first.lag)
    for rate in (step * gives for step in STEPS):
        found = _all_out(stage, market, partial(load.open_loop, port, rate=rate), round(rate * HOLD_S))
        held = found.is_whole and found.lag < HOLD_S * LAG
        yield found.row("held" if held else "not held", rate)
        print(f"  {rate:.0f} a second for {HOLD_S:.0f} s: all out {found.lag:.1f} s after", file=sys.stderr, flush=True)
        if not held:
            return


def _burst(stage: Stage, market: Market, port: int, rate: float) -> Iterator[dict[str, Any]]:
    """A while of the rate, then ten times as much."""
    usual = _all_out(stage, market, partial(load.open_loop, port, rate=rate), round(rate * HOLD_S))
    yield usual.row("half of it", rate)
    burst = _all_out(stage, market, partial(load.open_loop, port, rate=10 * rate), round(10 * rate * BURST_S))
    yield burst.row(f"ten times that, for {BURST_S:.0f} s", 10 * rate)


def _all_out(stage: Stage, market: Market, drive: Callable[[list[bytes]], load.Result], many: int) -> Run:
    before = {kind: stage.outside.count(kind) for kind in KINDS}
    result = drive(market.woovi_notices(many))
    due = {kind: count + many - result.failed for kind, count in before.items()}
    last = max(_wait(stage, kind, count) for kind, count in due.items())
    more = [stage.outside.count(kind) - count for kind, count in due.items()]
    lost, doubled = (sum(max(0, sign * each) for each in more) for sign in (-1, 1))
    return Run(result, last - result.began - result.seconds, lost, doubled)


def _wait(stage: Stage, kind: str, count: int) -> float:
    """When the last of so many came; now, if they don't come."""
    try:
        return stage.outside.wait(kind, count)
    except TimeoutError:
        return time.monotonic()
