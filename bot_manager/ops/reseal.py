"""A new key for all that is sealed: every sealed value is opened and sealed again, while everything runs.

Small batches, each its own transaction; a row that somebody else holds is left for the next pass, so that nobody waits
for us. A value that its owner changes meanwhile is sealed with the newest key anyway. What was done stays done: begun
again, it goes on where it was.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Engine, Select, Table, bindparam, func, select, update
from sqlalchemy.engine import Connection

from bot_manager.security.keys import RECHECK_S
from bot_manager.security.vault import CannotOpen, Vault
from models import Base

BATCH = 500
MOST_PASSES = 30
BETWEEN_PASSES_S = 2 * RECHECK_S  # by then every process seals with the newest key

Say = Callable[[str], None]


class Unfinished(Exception):
    """Values sealed with older keys were still coming in after many passes: some process does not know the newest."""

    permanent = False


@dataclass(frozen=True, slots=True)
class Sealed:
    """A column of sealed values."""

    table: Table
    column: Column[bytes]

    @property
    def purpose(self) -> str:
        return f"{self.table.name}.{self.column.name.removesuffix('_sealed')}"


def sealed_columns() -> list[Sealed]:
    return [
        Sealed(table, column)
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if column.name.endswith("_sealed")
    ]


def tally(connection: Connection) -> Counter[bytes]:
    """How many values each key sealed, by the key's id."""
    found: Counter[bytes] = Counter()
    for sealed in sealed_columns():
        key = func.substring(sealed.column, 1, 4)
        for row in connection.execute(select(key, func.count()).where(sealed.column.is_not(None)).group_by(key)):
            found[row[0]] += row[1]
    return found


def unopened(connection: Connection, vault: Vault, most: int | None = None) -> list[str]:
    """The values ("bot.token 7") that do not open. most: of each column only so many, the newest."""
    return [
        f"{sealed.purpose} {row[0]}"
        for sealed in sealed_columns()
        for row in _newest(connection, sealed, most)
        if _opened(vault, sealed, row) is None
    ]


def _newest(connection: Connection, sealed: Sealed, most: int | None) -> Iterable[Sequence[Any]]:
    rows = select(sealed.table.c.id, sealed.table.c.seller_id, sealed.column).where(sealed.column.is_not(None))
    return connection.execution_options(yield_per=1000).execute(rows.order_by(sealed.table.c.id.desc()).limit(most))


def reseal(engine: Engine, vault: Vault, say: Say) -> int:
    """Until a whole pass finds nothing sealed with an older key; answers how many values. Raises Unfinished.

    Values that do not open are left as they are.
    """
    done = 0
    for _ in range(MOST_PASSES):
        found = sum(_column(engine, vault, sealed, say) for sealed in sealed_columns())
        done += found
        time.sleep(BETWEEN_PASSES_S)
        if not found and not _left(engine, vault):
            return done
    raise Unfinished("values sealed with an older key keep coming: has every process the newest one?")


def _left(engine: Engine, vault: Vault) -> int:
    with engine.connect() as connection:
        old = [key for key in tally(connection) if key != vault.newest and vault.knows(key)]
        return len(old)


def _column(engine: Engine, vault: Vault, sealed: Sealed, say: Say) -> int:
    done = 0
    for size in _batches(engine, vault, sealed):
        done += size
        say(f"{sealed.purpose}: {done}")
    return done


def _batches(engine: Engine, vault: Vault, sealed: Sealed) -> Iterator[int]:
    after = 0
    while True:
        with engine.begin() as connection:
            rows = connection.execute(_older(sealed, vault.newest, after)).all()
            if not rows:
                return
            yield _seal_again(connection, vault, sealed, rows)
        after = rows[-1][0]


def _older(sealed: Sealed, newest: bytes, after: int) -> Select[Any]:
    table, column = sealed.table, sealed.column
    old = column.is_not(None), func.substring(column, 1, 4) != newest, table.c.id > after
    rows = select(table.c.id, table.c.seller_id, column).where(*old).order_by(table.c.id).limit(BATCH)
    return rows.with_for_update(skip_locked=True)


def _seal_again(connection: Connection, vault: Vault, sealed: Sealed, rows: Sequence[Sequence[Any]]) -> int:
    opened = [(row[0], row[1], text) for row in rows if (text := _opened(vault, sealed, row)) is not None]
    values = [{"row": row, "value": vault.seal(text, sealed.purpose, seller)} for row, seller, text in opened]
    if values:
        statement = update(sealed.table).where(sealed.table.c.id == bindparam("row"))
        connection.execute(statement.values({sealed.column.name: bindparam("value")}), values)
    return len(values)


def _opened(vault: Vault, sealed: Sealed, row: Sequence[Any]) -> str | None:
    try:
        return vault.open(row[2], sealed.purpose, row[1])
    except CannotOpen:
        return None
