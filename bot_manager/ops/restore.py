"""Putting a backup in the database's place, and asking about all that was paid since it was made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import Connection

from bot_manager.jobs import queue
from bot_manager.ops import backup, daily_backup, reseal, schema, scratch
from bot_manager.ops.postgres import Urls
from bot_manager.ops.processes import CannotRun
from bot_manager.ops.scratch import Database
from bot_manager.payments import reconcile
from bot_manager.security.vault import open_vault
from bot_manager.settings import Settings

SAMPLE = 200  # sealed values of each column that are opened before anything is replaced

Say = Callable[[str], None]

_TABLES = text("select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')")
_HELD = text(
    'select (select count(*) from seller) as sellers, (select count(*) from "user") as users,'
    " (select count(*) from payment) as payments, (select max(created_at) from payment) as last"
)
_MADE = text("select coalesce((select max(at) from pulse), (select max(at) from payment_event), now())")


@dataclass(frozen=True, slots=True)
class Held:
    """What a database holds. last: when its last sale began."""

    sellers: int
    users: int
    payments: int
    last: datetime | None

    def __str__(self) -> str:
        last = f", the last of {self.last:%Y-%m-%d %H:%M} UTC" if self.last else ""
        return f"{self.sellers} sellers, {self.users} logins, {self.payments} payments{last}"


def restore(settings: Settings, urls: Urls, file: Path, *, replace: bool, say: Say) -> None:
    """Nothing may run on the database meanwhile, nor does anything get in. Raises CannotRun, with all as it was."""
    current = Database(urls.owner)
    role = schema.role_of(urls.app)
    if not backup.verify(file):
        say(f"{file} has no checksum beside it; read without.")
    held = _held(current)
    _check_replaceable(held, replace)
    with scratch.fenced(current, role):
        if connected := scratch.others(current):
            raise CannotRun(f"still connected: {'; '.join(connected)}. Stop web, workers and whoever looks at it.")
        made = current.named(f"{current.name}_restoring")
        try:
            began = prepare(made, file, role, settings)
            say(f"Restored as it was at {began:%Y-%m-%d %H:%M:%S} UTC: {_held(made)}.")
            charges = _ask_what_was_missed(made, began)
            _replace(settings, current, made, held, say)
        except BaseException:
            scratch.drop(made)
            raise
    say(f"In place. {charges} charges will be asked about when a worker runs, since they may have been paid after.")


def prepare(made: Database, file: Path, role: str, settings: Settings) -> datetime:
    """The backup in a database of its own, of the newest schema, ready for workers; answers of when it is."""
    scratch.fill(made, file)
    schema.migrate(made.url, role)
    with made.connected() as connection:
        queue.start_anew(connection)
        began: datetime = connection.execute(_MADE).scalar_one()
        check_keys(connection, settings)
    return began


def check_keys(connection: Connection, settings: Settings) -> None:
    """Raises CannotRun when the keys of this installation are not the ones it was sealed with."""
    if bad := reseal.unopened(connection, open_vault(settings), SAMPLE):
        problem = f"{len(bad)} sealed values of it do not open with the keys here ({', '.join(bad[:3])} …)"
        raise CannotRun(f"{problem}; bring back the keys of its time (KEYS_DIR, retired_keys, ENCRYPTION_KEYS)")


def _held(database: Database) -> Held | None:
    """None for a database without tables. Raises CannotRun for one that is not ours."""
    with database.connected() as connection:
        if not connection.execute(_TABLES).scalar_one():
            return None
        if schema.version(connection) is None:
            raise CannotRun(f"there are tables in {database.name} that are not ours; give another database")
        row = connection.execute(_HELD).one()
        return Held(row.sellers, row.users, row.payments, row.last)


def _check_replaceable(held: Held | None, replace: bool) -> None:
    if held and (held.sellers or held.users) and not replace:
        raise CannotRun(
            f"this would throw away what is there: {held}. With --replace it is done, after a backup of that."
        )


def _ask_what_was_missed(made: Database, began: datetime) -> int:
    with made.connected() as connection:
        connection.execute(text("delete from pulse"))  # this absence is dealt with here, however short it was
        return reconcile.ask_what_was_missed(connection, began)


def _replace(settings: Settings, current: Database, made: Database, held: Held | None, say: Say) -> None:
    safe = held is None or not held.sellers or _safety_copy(settings, current, say)
    away = current.named(f"{current.name}_before_{int(time.time())}")
    scratch.take_place(made, current, away.name)
    if safe:
        scratch.drop(away)
    else:
        say(f"What was there could not be backed up; it is still there as the database {away.name}.")


def _safety_copy(settings: Settings, current: Database, say: Say) -> bool:
    try:
        made = backup.make(current.url, daily_backup.path_now(settings, "before-restore"))
    except (CannotRun, OSError) as error:
        say(f"No backup of what is there: {error}")
        return False
    say(f"What was there is in {made.path}.")
    return True
