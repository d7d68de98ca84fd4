"""Hours at half of what the machine can hold: what grows, and whether it should.

Two minutes unless told otherwise; `SECONDS=7200 python -m benchmarks soak` for the real one, RATE for other sales a
second than half of what a first burst comes to. A sale is a /start with its welcome, a signed notice, what was bought
delivered and its Purchase reported: 2 requests in, 3 out. Only what customers left may grow, and by the sale.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from typing import Any

from sqlalchemy import text

from benchmarks import load, proc
from benchmarks.report import Goal, Report
from benchmarks.shops import Market
from benchmarks.stage import Server, Stage, opened
from bot_manager.ops.checker import check

SECONDS = float(os.environ.get("SECONDS", "120"))
RATE = float(os.environ.get("RATE", "0"))
BURST = 200  # sales, to learn what the machine gives
CHUNK_S = 5.0
WARM_UP = 0.25  # of the time, left out of what is said to grow
LONG_S = 1800.0  # shorter than that, growth by the hour is noise

# Rows that end and are cleaned away, by contrast with what sales leave.
ENGINE = ("procrastinate_jobs", "procrastinate_events", "procrastinate_workers", "timer", "bot")
_SIZES = text(
    "select relname, pg_total_relation_size(relid) / 1048576.0 as mb from pg_stat_user_tables"
    " where n_tup_ins + n_tup_upd > 100 order by relname"
)
_COUNTS = {
    "connections": text("select count(*) from pg_stat_activity where datname = current_database()"),
    "jobs waiting": text("select count(*) from procrastinate_jobs where status in ('todo', 'doing')"),
    "jobs kept": text("select count(*) from procrastinate_jobs"),
    "dead rows": text("select sum(n_dead_tup) from pg_stat_user_tables"),
}


@dataclass
class Watch:
    """What was seen, by name: (seconds since the start, value). trees: the processes to look at, by name."""

    stage: Stage
    trees: Mapping[str, int]
    began: float = field(default_factory=time.monotonic)
    seen: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def passed(self) -> float:
        return time.monotonic() - self.began

    def look(self) -> None:
        now = self.passed
        for name, value in (*self._processes(), *self._database()):
            self.seen[name].append((now, value))

    def _processes(self) -> Iterator[tuple[str, float]]:
        yield "all, MB", sum(map(proc.pss_mb, self.trees.values()))
        for name, pid in self.trees.items():
            yield f"{name}, MB of its own", proc.pss_mb(pid, "Pss_Anon")
            yield f"{name}, open files", float(proc.files(pid))

    def _database(self) -> Iterator[tuple[str, float]]:
        with self.stage.owner.connect() as connection:
            for name, statement in _COUNTS.items():
                yield name, float(connection.scalar(statement) or 0)
            for table in connection.execute(_SIZES):
                yield f"{table.relname}, MB", float(table.mb)


def run() -> Report:
    with opened() as stage:
        market = Market(stage)
        with stage.web() as web, stage.worker() as worker:
            burst = _burst(stage, market, web)
            rate = RATE or burst / 2
            watch = Watch(stage, {"web": web.pid, "worker": worker, "postgres": stage.postgres})
            sold, failed = _sell(market, web.port, rate, watch)
            behind = _seconds_until_out(stage, sold + BURST)
            with stage.owner.connect() as connection:
                findings = check(connection, timedelta(minutes=1))
    notes = [
        f"{sold} sales in {SECONDS:.0f} s, {rate:.1f} a second; a burst of {BURST} came to {burst:.1f}",
        f"{failed} requests refused; all out {behind:.1f} s after the last; the checker found {findings or 'nothing'}",
    ]
    title = f"{SECONDS / 60:.0f} minutes at half of what it can hold: what grows"
    return Report(title, [_row(name, seen, sold) for name, seen in watch.seen.items()], notes, _goals(watch))


def _burst(stage: Stage, market: Market, web: Server) -> float:
    """Sales a second when as many come as it can take."""
    result = load.closed(web.port, _requests(market, BURST), 16)
    return BURST / (_out(stage, BURST) - result.began)


def _requests(market: Market, many: int) -> list[bytes]:
    sales = market.sales(many, "woovi")
    notices = [market.woovi_notice(sale, sale.shop.paths["woovi"]) for sale in sales]
    return list(chain.from_iterable(zip(map(market.start, sales), notices, strict=True)))


def _out(stage: Stage, sales: int) -> float:
    """When the last of what so many sales send was out."""
    return max(stage.outside.wait("sendMessage", 2 * sales), stage.outside.wait("events", sales))


def _seconds_until_out(stage: Stage, sales: int) -> float:
    ended = time.monotonic()
    return max(0.0, _out(stage, sales) - ended)


def _sell(market: Market, port: int, rate: float, watch: Watch) -> tuple[int, int]:
    """Sales made, and requests that were not answered well. A chunk is made while the one before it is sent."""
    many = max(1, round(rate * CHUNK_S))
    sold = failed = minutes = 0
    with ThreadPoolExecutor(1) as pool:
        sending: Future[load.Result] | None = None
        while watch.passed < SECONDS:
            requests = _requests(market, many)
            failed += sending.result().failed if sending else 0
            sending = pool.submit(load.open_loop, port, requests, 2 * rate)
            sold += many
            watch.look()
            if watch.passed >= 60 * (minutes + 1):
                minutes = int(watch.passed // 60)
                _say(minutes, sold, watch)
        failed += sending.result().failed if sending else 0
    watch.look()
    return sold, failed


def _say(minutes: int, sold: int, watch: Watch) -> None:
    last = {name: seen[-1][1] for name, seen in watch.seen.items()}
    said = ", ".join(f"{name} {last[name]:.0f}" for name in ("all, MB", "connections", "jobs waiting"))
    print(f"  minute {minutes} of {SECONDS / 60:.0f}: {sold} sales, {said}", file=sys.stderr, flush=True)


def _row(name: str, seen: list[tuple[float, float]], sold: int) -> dict[str, Any]:
    settled = _settled(seen)
    first, last = settled[0][1], settled[-1][1]
    sales = sold * (settled[-1][0] - settled[0][0]) / SECONDS or 1
    highest = max(value for _, value in seen)
    each = {"after warm-up": first, "at the end": last, "highest": highest, "more an hour": _hourly(seen)}
    return {"what": name, **each, "more by 1,000 sales": (last - first) / sales * 1000}


def _settled(seen: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(at, value) for at, value in seen if at >= SECONDS * WARM_UP] or seen


def _hourly(seen: list[tuple[float, float]]) -> float:
    """The slope of the straight line through what was seen after the warm-up, by the hour."""
    points = _settled(seen)
    at = sum(time for time, _ in points) / len(points)
    mean = sum(value for _, value in points) / len(points)
    spread = sum((time - at) ** 2 for time, _ in points)
    return 3600 * sum((time - at) * (value - mean) for time, value in points) / spread if spread else 0.0


def _goals(watch: Watch) -> list[Goal]:
    return list(_flat(watch)) if SECONDS >= LONG_S else []


def _flat(watch: Watch) -> Iterator[Goal]:
    for name in ("web, MB of its own", "worker, MB of its own", "postgres, MB of its own"):
        yield Goal(f"{name}, more an hour", _hourly(watch.seen[name]), 5.0, "MB")
    yield Goal("connections, more an hour", _hourly(watch.seen["connections"]), 1.0, "")
    for table in ENGINE:
        if seen := watch.seen.get(f"{table}, MB"):
            yield Goal(f"{table}, more an hour", _hourly(seen), 5.0, "MB")
