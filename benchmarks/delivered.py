"""How long a buyer waits, at rest: from the notice until the message with what was bought is on its way to Telegram."""

from __future__ import annotations

import random
import time

from benchmarks import load
from benchmarks.load import percentile
from benchmarks.report import Goal, Report
from benchmarks.shops import Market
from benchmarks.stage import Stage, opened

SAMPLES = 200
WARM_UP = 20


def run() -> Report:
    with opened() as stage:
        notices = Market(stage).woovi_notices(SAMPLES + WARM_UP)
        with stage.web() as web, stage.worker():
            samples = [_sample(stage, web.port, notice) for notice in notices][WARM_UP:]
    answered, delivered = (sorted(times) for times in zip(*samples, strict=True))
    rows = [_row("the notice is answered: paid", answered), _row("the message is at Telegram", delivered)]
    goal = Goal("paid until delivered, median", percentile(delivered, 50), 60.0, "ms")
    return Report(f"Paid until delivered, one at a time, {SAMPLES} sales (ms from the notice)", rows, goals=[goal])


def _sample(stage: Stage, port: int, notice: bytes) -> tuple[float, float]:
    """Milliseconds until the answer, and until the message."""
    messages, events = (stage.outside.count(kind) for kind in ("sendMessage", "events"))
    time.sleep(random.uniform(0, 0.05))  # away from the beat of any clock
    began, answered = load.send_one(port, notice)
    sent = stage.outside.wait("sendMessage", messages + 1)
    stage.outside.wait("events", events + 1)  # at rest again
    return (answered - began) * 1000, (sent - began) * 1000


def _row(what: str, millis: list[float]) -> dict[str, object]:
    return {"until": what, **{f"p{percent}": percentile(millis, percent) for percent in (50, 90, 99)}}
