"""One seller's flood beside another's everyday: at the door, and in the worker. Alone and amid the flood in turns.

The floor is the same flood at a server on this machine that does nothing: what is felt of that is the machine's. It has
a second goal because the load itself, two processes of ours and PostgreSQL share two cores here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from benchmarks import load
from benchmarks.levels import posts
from benchmarks.report import Goal, Report
from benchmarks.shops import Market
from benchmarks.stage import GUNICORN, Stage, opened, wait_until

ROUNDS = 2
SECONDS = 5
CALM_RATE = 20.0
FLOOD_RATE = 1000.0
FLOOD_CONNECTIONS = 40  # as many as we let Telegram open for a bot
BACKLOG = 10_000
REPLIES = 15

# The same body serves all: a sealed value is bound to its seller and column only.
_CHATS = (
    "insert into inbox (seller_id, bot_id, channel, chat_id, event_key, update_id, body_sealed, trace_id)"
    " select seller_id, bot_id, channel, (900000000 + i)::text, event_key || ':' || i, update_id + i, body_sealed, ''"
    " from inbox, generate_series(1, :many) i where id = (select max(id) from inbox)"
)
_JOBS = (
    "insert into procrastinate_jobs (queue_name, task_name, share, lock, args)"
    " select queue_name, task_name, share, lock || i, args || jsonb_build_object('chat', (900000000 + i)::text)"
    " from procrastinate_jobs, generate_series(1, :many) i"
    " where id = (select max(id) from procrastinate_jobs where task_name = 'converse')"
)
_LEFT = "select count(*) from inbox where state = 'new'"

Times = tuple[list[float], list[float]]  # alone and amid a flood, milliseconds, sorted
Requests = Callable[[int], list[bytes]]
Flood = Callable[[int, list[bytes]], object]


def run() -> Report:
    with opened() as stage:
        market = Market(stage)
        loud, calm = market.alone(0), market.alone(1)
        found: dict[str, Times] = {}
        with stage.served(*GUNICORN, "benchmarks.floor:asgi") as idle, stage.web() as web:
            load.closed(web.port, [*market.woovi_notices(200), *market.starts(200)], 16)
            for name, flood in (("1,000/s", _due), (f"{FLOOD_CONNECTIONS} connections", _at_once)):
                found[f"notice, {name}"] = _door(web.port, flood, loud.woovi_notices, calm.woovi_notices)
                found[f"update, {name}"] = _door(web.port, flood, loud.starts, calm.starts)
            empty = partial(posts, "/nothing")
            found["notice, 1,000/s elsewhere"] = _door(web.port, _due, empty, calm.woovi_notices, flooded=idle.port)
            stage.run("delete from procrastinate_jobs")
            stage.run("update inbox set state = 'done'")
            replies = _worker(stage, web.port, loud, calm)
    rows = [_row(name, *times) for name, times in found.items()]
    rows.append(_row(f"reply, {BACKLOG} updates waiting", *replies))
    what = "p99 amid the flood, as a multiple of alone"
    goals = [Goal(f"{name}: {what}", _ratio(times), 2.0, "times") for name, times in found.items()]
    above = _ratio(found["notice, 1,000/s"]) / _ratio(found["notice, 1,000/s elsewhere"])
    goals.append(Goal("notice, 1,000/s: the same beside the floor", above, 2.0, "times"))
    goals.append(Goal("another bot's slowest reply", replies[1][-1], 1000.0, "ms"))
    return Report("One seller's flood beside another's everyday (ms)", rows, goals=goals)


def _row(what: str, alone: list[float], amid: list[float]) -> dict[str, Any]:
    row: dict[str, Any] = {"another's": what}
    for name, millis in (("alone", alone), ("amid", amid)):
        row |= {f"{name} p50": load.percentile(millis, 50), f"{name} p99": load.percentile(millis, 99)}
    return row


def _ratio(times: Times) -> float:
    alone, amid = times
    return load.percentile(amid, 99) / load.percentile(alone, 99)


# The door ---------------------------------------------------------------------------------------------------------


def _door(port: int, flood: Flood, loud: Requests, calm: Requests, *, flooded: int | None = None) -> Times:
    """The calm one's times, alone and amid the flood. flooded: the port of another server that the flood goes to."""
    alone, amid = [], []
    for _ in range(ROUNDS):
        alone += _everyday(port, calm)
        requests = loud(int(FLOOD_RATE * (SECONDS + 2)))
        with ThreadPoolExecutor(1) as beside:
            flooding = beside.submit(flood, flooded or port, requests)
            time.sleep(1)
            amid += _everyday(port, calm)
            flooding.result()
    return sorted(alone), sorted(amid)


def _due(port: int, requests: list[bytes]) -> object:
    return load.open_loop(port, requests, FLOOD_RATE)


def _at_once(port: int, requests: list[bytes]) -> object:
    return load.closed(port, requests, FLOOD_CONNECTIONS, SECONDS + 2)


def _everyday(port: int, requests: Requests) -> list[float]:
    """Of each request; one that was sent away took for ever."""
    result = load.open_loop(port, requests(int(CALM_RATE * SECONDS)), CALM_RATE)
    return [*result.millis, *[load.PATIENCE_S * 1000] * result.failed]


# The worker -------------------------------------------------------------------------------------------------------


def _worker(stage: Stage, port: int, loud: Market, calm: Market) -> Times:
    with stage.worker():
        alone = [_reply(stage, port, calm) for _ in range(REPLIES)]
    load.closed(port, loud.starts(1), 1)
    stage.run(_CHATS, many=BACKLOG)
    stage.run(_JOBS, many=BACKLOG)
    with stage.worker():
        wait_until(lambda: stage.ask(_LEFT) < BACKLOG)
        amid = [_reply(stage, port, calm) for _ in range(REPLIES)]
        if not stage.ask(_LEFT):
            raise RuntimeError("the backlog was over before the replies were")
    return sorted(alone), sorted(amid)


def _reply(stage: Stage, port: int, calm: Market) -> float:
    """Milliseconds from the push of a /start until the welcome is at Telegram."""
    kind = f"sendMessage@{calm.shops[0].number}"
    wanted = stage.outside.count(kind) + 1
    began, _ = load.send_one(port, calm.starts(1)[0])
    return (stage.outside.wait(kind, wanted) - began) * 1000
