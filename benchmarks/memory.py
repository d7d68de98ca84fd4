"""What a bot costs in the worker's memory: `python-telegram-bot`'s Bot on the shared request. Each count in a process
of its own: `python -m benchmarks.memory 1000`."""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.report import Goal, Report
from benchmarks.stage import PYTHON, ROOT
from bot_manager.channels.telegram import Telegram

COUNTS = (10, 1000, 3000)


def run() -> Report:
    rows = [_row(count) for count in COUNTS]
    goals = [Goal(f"memory a bot, {row['bots']} bots", row["KB a bot"], 10.0, "KB") for row in rows]
    return Report("Memory of bots in the worker", rows, goals=goals)


def _row(count: int) -> dict[str, Any]:
    words = [PYTHON, "-m", "benchmarks.memory", str(count)]
    kilobytes, seconds = map(float, subprocess.check_output(words, cwd=ROOT, text=True).split())
    return {"bots": count, "MB": kilobytes / 1024, "KB a bot": kilobytes / count, "ms a bot": seconds * 1000 / count}


def _grow(count: int) -> tuple[float, float]:
    """Kilobytes and seconds that so many bots take, after a first one."""
    telegram = Telegram("http://127.0.0.1:9")
    telegram.bot(_token(0))
    gc.collect()
    before, began = _resident_kb(), time.perf_counter()
    for number in range(1, count + 1):
        telegram.bot(_token(number))
    seconds = time.perf_counter() - began
    gc.collect()
    return _resident_kb() - before, seconds


def _token(number: int) -> str:
    return f"{100000 + number}:AAE-{number:031d}"


def _resident_kb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024


if __name__ == "__main__":
    print(*_grow(int(sys.argv[1])))
