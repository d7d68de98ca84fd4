"""One route under load, at the same levels for every route, so that they can be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import load
from benchmarks.proc import metered
from benchmarks.report import Goal
from benchmarks.shops import SHOPS
from benchmarks.stage import GUNICORN, Server, Stage

CONNECTIONS = (1, 16, 64)
METERED = 16  # connections at which CPU is counted
SECONDS = 2.5
RATE = 100.0
FLOOR_TABLE = "create table floor (id bigint generated always as identity primary key, body bytea not null)"
BODY = b'{"event": "paid", "charge": "' + b"x" * 500 + b'"}'

Requests = Callable[[int], list[bytes]]


def climb(stage: Stage, name: str, server: Server, make: Requests, most: int) -> dict[str, Any]:
    """A row: rates and times at each level, CPU-ms a request. make: so many new requests; most: a level's."""
    load.closed(server.port, make(200), METERED)
    row: dict[str, Any] = {"route": name}
    for connections in CONNECTIONS:
        requests = make(most)
        with metered(web=server.pid, postgres=stage.postgres) as used:
            result = load.closed(server.port, requests, connections, SECONDS)
        row |= _measured(f"{connections}c", result)
        if connections == METERED:
            cpu = {f"{tree} ms": used[tree] / len(result.millis) for tree in used}
    result = load.open_loop(server.port, make(int(RATE * SECONDS)), RATE)
    row |= {"p50 100/s": result.percentile(50), "p99 100/s": result.percentile(99)}
    return row | cpu


def _measured(level: str, result: load.Result) -> dict[str, float]:
    if result.failed:
        raise RuntimeError(f"{result.failed} requests failed at {level}")
    times = {f"p{percent} {level}": result.percentile(percent) for percent in (50, 99)}
    return {f"req/s {level}": result.rate, **times}


def floors(stage: Stage) -> list[dict[str, Any]]:
    """The rows of the same front with nothing behind it, and with one durable insert."""
    stage.run(f"{FLOOR_TABLE}; grant insert on floor to bot_manager")
    with stage.served(*GUNICORN, "benchmarks.floor:asgi") as server:
        nothing = climb(stage, "floor: nothing", server, lambda many: posts("/nothing", many), 20000)
        insert = climb(stage, "floor: one insert", server, lambda many: posts("/insert", many), 10000)
    return [nothing, insert]


def added(row: dict[str, Any], floor: dict[str, Any]) -> str:
    web, database = (row[tree] - floor[tree] for tree in ("web ms", "postgres ms"))
    name = floor["route"].removeprefix("floor: ")
    return f"{row['route']} adds to {name}: {web:.2f} CPU-ms in web and {database:.2f} in PostgreSQL"


def tail(row: dict[str, Any]) -> Goal:
    return Goal(f"{row['route']}, p99 at {RATE:.0f} a second", row["p99 100/s"], 25.0, "ms")


def posts(path: str, many: int) -> list[bytes]:
    """From as many visitors as the other rows have shops: each may have one request in work at a time."""
    return [_post(path, number % SHOPS) for number in range(many)]


def _post(path: str, visitor: int) -> bytes:
    return load.request("POST", path, {"Content-Type": "application/json", "Cookie": f"visitor={visitor}"}, BODY)
