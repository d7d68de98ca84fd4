"""The drill: a backup is made, restored beside the real database, compared with it and checked; each step is timed.

Nothing that runs is disturbed: it only reads the real database, in one snapshot, which is also what is backed up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection

from bot_manager.ops import backup, daily_backup, restore, schema, scratch
from bot_manager.ops.checker import check
from bot_manager.ops.postgres import Urls
from bot_manager.ops.scratch import Database
from bot_manager.settings import Settings

DEADLINE = timedelta(hours=1)  # what is under way longer is told of, here and there

_TABLES = text(
    "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') order by 1"
)
_PLAIN = text(
    "select set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO', true),"
    " set_config('extra_float_digits', '1', true), set_config('bytea_output', 'hex', true)"
)
_NUMBERED = text(
    "select table_name from information_schema.columns where table_schema = 'public' and column_name = 'id'"
    " and (is_identity = 'YES' or column_default like 'nextval(%') order by 1"
)

Rows = dict[str, tuple[int, int]]  # table: how many rows, and the sum of their hashes


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    seconds: float
    detail: str


@dataclass
class Report:
    """differences: in what the restored database is not the real one; none when all is well."""

    steps: list[Step] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @contextmanager
    def timed(self, name: str) -> Iterator[list[str]]:
        """The block is a step; what it appends to the list is its detail."""
        began, detail = time.monotonic(), list[str]()
        yield detail
        self.steps.append(Step(name, time.monotonic() - began, " ".join(detail)))


@dataclass(frozen=True, slots=True)
class State:
    """What a database holds, and what its checker finds of what was late at `at`."""

    rows: Rows
    findings: list[str]


def drill(settings: Settings, urls: Urls) -> Report:
    """Raises CannotRun."""
    report, real = Report(), Database(urls.owner)
    made = real.named(f"{real.name}_drill")
    file = daily_backup.path_now(settings, "drill")
    try:
        before, at = _back_up(report, real, file)
        _restore(report, made, file)
        _compare(report, made, before, at)
        _make_ready(report, made, urls, settings)
    finally:
        with report.timed("delete"):
            scratch.drop(made)
            file.unlink(missing_ok=True)
            backup.sum_of(file).unlink(missing_ok=True)
    return report


def _back_up(report: Report, real: Database, file: Path) -> tuple[State, datetime]:
    with real.connected() as connection:
        connection.execute(text("set transaction isolation level repeatable read, read only"))
        snapshot = connection.execute(text("select pg_export_snapshot()")).scalar_one()
        at: datetime = connection.execute(text("select now()")).scalar_one()
        with report.timed("back up") as detail:
            made = backup.make(real.url, file, snapshot=snapshot)
            detail.append(f"{made.size / 1e6:.1f} MB")
        with report.timed("read the real one") as detail:
            state = _state(connection, DEADLINE)
            detail.append(_counted(state.rows))
    return state, at


def _restore(report: Report, made: Database, file: Path) -> None:
    with report.timed("verify the file"):
        backup.verify(file)
    with report.timed("restore"):
        scratch.fill(made, file)


def _compare(report: Report, made: Database, before: State, at: datetime) -> None:
    with report.timed("compare and check") as detail, made.connected() as connection:
        since: timedelta = connection.execute(text("select now()")).scalar_one() - at
        after = _state(connection, DEADLINE + since)
        report.differences += _differences(before.rows, after.rows)
        report.differences += [f"the checker finds {each}" for each in after.findings if each not in before.findings]
        report.differences += _behind(connection)
        report.findings += before.findings
        detail.append(_counted(after.rows))


def _make_ready(report: Report, made: Database, urls: Urls, settings: Settings) -> None:
    with report.timed("migrate"):
        schema.migrate(made.url, schema.role_of(urls.app))
    with report.timed("open with the keys"), made.connected() as connection:
        restore.check_keys(connection, settings)


def _state(connection: Connection, deadline: timedelta) -> State:
    connection.execute(_PLAIN)
    rows = {table: _rows(connection, table) for table in connection.execute(_TABLES).scalars().all()}
    found = [f"{finding.rule}: {finding.count}" for finding in check(connection, deadline)]
    return State(rows, found)


def _rows(connection: Connection, table: str) -> tuple[int, int]:
    quoted = connection.dialect.identifier_preparer.quote(table)
    summed = f"select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) from {quoted} t"  # noqa: S608
    count, total = connection.execute(text(summed)).one()
    return int(count), int(total)


def _differences(before: Rows, after: Rows) -> Iterator[str]:
    for table in sorted(before.keys() | after.keys()):
        was, became = before.get(table), after.get(table)
        if was != became:
            yield f"{table}: {_told(was)} became {_told(became)}"


def _told(rows: tuple[int, int] | None) -> str:
    return f"{rows[0]} rows (hash {rows[1]})" if rows else "nothing"


def _behind(connection: Connection) -> Iterator[str]:
    """Tables whose next number is taken already: they would refuse the next row."""
    for table in connection.execute(_NUMBERED).scalars().all():
        quoted = connection.dialect.identifier_preparer.quote(table)
        highest, given = connection.execute(
            text(
                f"select (select coalesce(max(id), 0) from {quoted}),"  # noqa: S608
                " coalesce((select last_value from pg_sequences where schemaname || '.' || sequencename ="
                " replace(pg_get_serial_sequence(:table, 'id'), '\"', '')), 0)"
            ),
            {"table": quoted},
        ).one()
        if highest > given:
            yield f"{table}: row {highest} is there, and the next number would be {given + 1}"


def _counted(rows: Rows) -> str:
    return f"{sum(count for count, _ in rows.values())} rows in {len(rows)} tables"


def as_json(report: Report) -> dict[str, Any]:
    """{"ok", "seconds", "steps": [{"name", "seconds", "detail"}], "differences", "findings"}."""
    steps = [{"name": step.name, "seconds": round(step.seconds, 3), "detail": step.detail} for step in report.steps]
    return {
        "ok": not report.differences,
        "seconds": round(sum(step.seconds for step in report.steps), 3),
        "steps": steps,
        "differences": report.differences,
        "findings": report.findings,
    }


def as_text(report: Report) -> str:
    lines = [f"{step.name:20} {step.seconds:8.2f} s  {step.detail}".rstrip() for step in report.steps]
    lines += [f"{'in all':20} {sum(step.seconds for step in report.steps):8.2f} s", ""]
    lines += [f"found in both: {each}" for each in report.findings]
    lines += [f"DIFFERS  {each}" for each in report.differences] or ["The restored database is the real one's equal."]
    return "\n".join(lines)
