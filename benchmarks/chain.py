"""The whole chain: a notice comes in, is authenticated and deduplicated, the sale is durably paid, the buyer gets a
message, Meta gets the Purchase. Beside a reference that does no more than that, and layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import load, reference
from benchmarks.proc import metered
from benchmarks.report import Goal, Report
from benchmarks.shops import CENTS, Market
from benchmarks.stage import GUNICORN, Stage, opened, wait_until

CHAINS = 600
WARM_UP = 100
CONNECTIONS = 16
LAYERS = {
    "deliver: the message queued in the chat, and out to Telegram": "chat",
    "purchase: the event made, and out to Meta": "bulk",
}

_FORGET = "delete from procrastinate_jobs"
_HOLD = "update procrastinate_jobs set scheduled_at = now() + interval '1 hour' where status = 'todo'"
_RELEASE = "update procrastinate_jobs set scheduled_at = null where status = 'todo'"
_LEFT = "select count(*) from procrastinate_jobs where queue_name = :lane and status in ('todo', 'doing')"


def run() -> Report:
    with opened() as stage:
        market = Market(stage)
        floor = _reference(stage, market)
        whole = _product(stage, market)
        layers = list(_layers(stage, market))
    factor = whole["CPU-ms"] / floor["CPU-ms"]
    goals = [Goal("CPU of a chain, as a multiple of the reference's", factor, 2.0, "times")]
    return Report(f"The whole chain at {CONNECTIONS} connections", [floor, whole, *layers], goals=goals)


def _product(stage: Stage, market: Market) -> dict[str, Any]:
    with stage.web() as web, stage.worker() as worker:
        _drive(stage, web.port, market.woovi_notices(WARM_UP))
        requests = market.woovi_notices(CHAINS)
        with metered(web=web.pid, worker=worker, postgres=stage.postgres) as used:
            seconds = _drive(stage, web.port, requests)
    return _row("the product", used, seconds)


def _reference(stage: Stage, market: Market) -> dict[str, Any]:
    stage.run(reference.TABLES)
    with stage.served(*GUNICORN, "benchmarks.reference:asgi") as web:
        _drive(stage, web.port, _reference_notices(stage, market, WARM_UP))
        requests = _reference_notices(stage, market, CHAINS)
        with metered(web=web.pid, postgres=stage.postgres) as used:
            seconds = _drive(stage, web.port, requests)
    return _row("the reference", used, seconds)


def _reference_notices(stage: Stage, market: Market, many: int) -> list[bytes]:
    sales = market.sales(many, "woovi")
    with stage.owner.begin() as connection:
        connection.execute(reference.OPEN, [{"token": s.reference, "cents": CENTS, "chat": s.chat_id} for s in sales])
    return [market.woovi_notice(sale, "/notice") for sale in sales]


def _drive(stage: Stage, port: int, requests: list[bytes]) -> float:
    """Seconds from the first notice until all messages and all events are out."""
    wanted = {kind: stage.outside.count(kind) + len(requests) for kind in ("sendMessage", "events")}
    posted = load.closed(port, requests, CONNECTIONS)
    if posted.failed:
        raise RuntimeError(f"{posted.failed} notices were not taken in")
    return max(stage.outside.wait(kind, count) for kind, count in wanted.items()) - posted.began


def _layers(stage: Stage, market: Market) -> Iterator[dict[str, Any]]:
    """Each layer with only its own processes running."""
    with stage.web() as web:
        load.closed(web.port, market.woovi_notices(WARM_UP), CONNECTIONS)
        stage.run(_FORGET)
        requests = market.woovi_notices(CHAINS)
        with metered(web=web.pid, postgres=stage.postgres) as used:
            load.closed(web.port, requests, CONNECTIONS)
    yield _row("  notice: authenticated, deduplicated, paid", used)
    for name, lane in LAYERS.items():
        stage.run(_HOLD)
        with stage.worker(lane) as worker, metered(worker=worker, postgres=stage.postgres) as used:
            stage.run(_RELEASE)
            wait_until(lambda lane=lane: not stage.ask(_LEFT, lane=lane), 0.1)
        yield _row(f"  {name}", used)


def _row(what: str, used: dict[str, float], seconds: float | None = None) -> dict[str, Any]:
    each = {tree: used[tree] / CHAINS if tree in used else None for tree in ("web", "worker", "postgres")}
    rate = CHAINS / seconds if seconds else None
    return {"per chain": what, "chains/s": rate, "CPU-ms": sum(used.values()) / CHAINS, **each}
