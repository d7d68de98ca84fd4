"""The whole product at rest: `python -m bot_manager run`, how soon it is healthy and what it holds."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import proc
from benchmarks.report import Goal, Report
from benchmarks.stage import answers, ask, free_port, program, wait_until

SETTLE_S = 4.0
WATCH_S = 5.0


def run() -> Report:
    with TemporaryDirectory(prefix="bench-") as home:
        Path(home).chmod(0o755)
        rows = [_start("first, with an empty disk", home), _start("second", home)]
    slowest = max(row["healthy after s"] for row in rows)
    heaviest = max(row["MB"] for row in rows)
    goals = [Goal("healthy after", slowest, 4.0, "s"), Goal("memory at rest", heaviest, 350.0, "MB")]
    return Report("The whole product at rest (PSS of all processes, PostgreSQL too)", rows, goals=goals)


def _start(what: str, home: str) -> dict[str, Any]:
    port = free_port()
    env = {"DATA_DIR": f"{home}/var", "KEYS_DIR": f"{home}/keys", "PORT": str(port), "LOG_LEVEL": "WARNING"}
    began = time.monotonic()
    with program("-m", "bot_manager", "run", env=env) as pid:
        wait_until(lambda: answers(port), 0.05)
        answered = time.monotonic() - began
        wait_until(lambda: _healthy(port), 0.05)
        healthy = time.monotonic() - began
        time.sleep(SETTLE_S)
        with proc.metered(all=pid) as used:
            time.sleep(WATCH_S)
        held = {"MB": proc.pss_mb(pid), "processes": len(proc.tree(pid)), "CPU %": used["all"] / WATCH_S / 10}
    return {"start": what, "answers after s": answered, "healthy after s": healthy, **held}


def _healthy(port: int) -> bool:
    return b'"status":"ok"' in ask(port, "/health").replace(b" ", b"")
