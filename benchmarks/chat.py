"""A turn of a chat: Telegram pushes /start, the welcome goes out. Beside an aiohttp program that only echoes."""

from __future__ import annotations

from typing import Any

from benchmarks import load
from benchmarks.proc import metered
from benchmarks.report import Report
from benchmarks.shops import Market
from benchmarks.stage import Server, Stage, opened

UPDATES = 800
WARM_UP = 100
CONNECTIONS = 16


def run() -> Report:
    with opened() as stage:
        market = Market(stage)
        with stage.served("-m", "benchmarks.echo") as echo:
            floor = _row("floor: aiohttp echo", stage, market, echo, {"web": echo.pid})
        with stage.web() as web, stage.worker() as worker:
            trees = {"web": web.pid, "worker": worker, "postgres": stage.postgres}
            product = _row("the product", stage, market, web, trees)
    return Report(f"A turn of a chat at {CONNECTIONS} connections: /start in, welcome out", [floor, product])


def _row(what: str, stage: Stage, market: Market, server: Server, trees: dict[str, int]) -> dict[str, Any]:
    _drive(stage, server, market.starts(WARM_UP))
    updates = market.starts(UPDATES)
    with metered(**trees) as used:
        seconds = _drive(stage, server, updates)
    each = {tree: used[tree] / UPDATES if tree in used else None for tree in ("web", "worker", "postgres")}
    return {"per update": what, "updates/s": UPDATES / seconds, "CPU-ms": sum(used.values()) / UPDATES, **each}


def _drive(stage: Stage, server: Server, updates: list[bytes]) -> float:
    wanted = stage.outside.count("sendMessage") + len(updates)
    pushed = load.closed(server.port, updates, CONNECTIONS)
    if pushed.failed:
        raise RuntimeError(f"{pushed.failed} updates were not taken in")
    return stage.outside.wait("sendMessage", wanted) - pushed.began
