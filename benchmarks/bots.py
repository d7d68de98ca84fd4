"""What many polled bots cost: until all are polled, at rest, and when all of them are removed again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.proc import cpu_ms, pss_mb
from benchmarks.report import Goal, Report
from benchmarks.stage import Stage, opened, program, wait_until
from bot_manager import sellers
from bot_manager.app import create_core, vault
from bot_manager.security.vault import new_secret
from models import Bot, BotState, db

COUNTS = (10, 1000, 3000)
REST_S = 5.0
_HELD = "select count(*) from pg_locks where locktype = 'advisory' and classid = 7263003"
_WANTED = "update bot set archived_at = case when id <= (select min(id) from bot) + :many - 1 then null else now() end"


def run() -> Report:
    with opened() as stage:
        _add(stage, max(COUNTS))
        rows = [_row(stage, many) for many in COUNTS]
    goals = [Goal("CPU at rest of the most bots", rows[-1]["CPU-ms/s at rest"], 200.0, "ms a second")]
    return Report("Bots that are polled by one process", rows, goals=goals)


def _row(stage: Stage, many: int) -> dict[str, Any]:
    stage.run(_WANTED, many=0)
    with program("-m", "bot_manager", "bots", env=stage.env) as pid:
        wait_until(lambda: stage.ask("select count(*) from pg_stat_activity where application_name = 'polling'"))
        empty, before, began = pss_mb(pid), stage.outside.count("getUpdates"), time.monotonic()
        stage.run(_WANTED, many=many)
        polled = stage.outside.wait("getUpdates", before + many) - began
        fds, full = len(list(Path(f"/proc/{pid}/fd").iterdir())), pss_mb(pid)
        rest = cpu_ms(pid)
        time.sleep(REST_S)
        rest = (cpu_ms(pid) - rest) / REST_S
        removing = time.monotonic()
        stage.run(_WANTED, many=0)
        wait_until(lambda: not stage.ask(_HELD))
        removed = time.monotonic() - removing
    told = {"bots": many, "s until polled": polled, "s until removed": removed, "CPU-ms/s at rest": rest}
    return {**told, "MB": full, "KB a bot": (full - empty) * 1024 / many, "open files": fds}


def _add(stage: Stage, many: int) -> None:
    with create_core(stage.settings).app_context():
        seller = sellers.create("Loja", "dona@example.com").seller_id
        for number in range(many):
            bot = Bot(seller_id=seller, key=f"bot{number}", public_id=new_secret(), state=BotState.ACTIVE)
            bot.token_sealed = vault().seal(f"{100000 + number}:AAE-bench", "bot.token", seller)
            db.session.add(bot)
        db.session.commit()
        db.session.remove()
        db.engine.dispose()
