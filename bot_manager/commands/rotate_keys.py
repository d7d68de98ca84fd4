"""`rotate-keys`: a new key for all that is sealed, while everything runs; see docs/operations.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import Connection

from bot_manager.ops import postgres, reseal
from bot_manager.ops.processes import CannotRun
from bot_manager.security.keys import KEYS, KeyFile
from bot_manager.security.vault import Vault, open_vault
from bot_manager.settings import Settings, engine_url

_ALONE = text("select pg_try_advisory_lock(hashtext('rotate-keys'))")
_BLIND = text("select row_security_active('message')")


def main(settings: Settings, words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bot_manager rotate-keys")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="only count what each key sealed")
    choice.add_argument("--remove-old", action="store_true", help="take out the keys that seal nothing any more")
    chosen = parser.parse_args(words)
    with postgres.running(settings) as urls, _alone(urls.owner) as engine:
        vault = open_vault(settings)
        if not (chosen.check or chosen.remove_old):
            _rotate(engine, settings, vault)
        clean = _proved(engine, vault)
        if chosen.remove_old:
            return _remove_old(settings) if clean else 1
    return 0 if clean or chosen.check else 1


def _rotate(engine: Engine, settings: Settings, vault: Vault) -> None:
    with engine.connect() as connection:
        begun = any(vault.knows(key) for key in reseal.tally(connection) if key != vault.newest)
    if begun:
        _say("Going on with the newest key.")
    elif settings.encryption_keys:
        _say("Nothing is sealed with an older key: put a new one first in ENCRYPTION_KEYS, as docs/operations.md says.")
    else:
        KeyFile(settings.keys_dir / KEYS).add()
        _say(f"A new key is in {settings.keys_dir / KEYS}: what runs seals with it from the next second on.")
        vault.refresh()
    try:
        done = reseal.reseal(engine, vault, _say)
    except reseal.Unfinished as error:
        raise CannotRun(f"{error} Restart web and worker with it, and call this again.") from error
    _say(f"Sealed again: {done} values.")


def _proved(engine: Engine, vault: Vault) -> bool:
    """Counts, and opens every single value."""
    with engine.connect() as connection:
        found = reseal.tally(connection)
        unopened = reseal.unopened(connection, vault)
    newest, older = found.pop(vault.newest, 0), sum(found.values())
    _say(f"Sealed with the newest key: {newest}. With older ones: {older}. Not to be opened: {len(unopened)}.")
    if unopened:
        _say(f"Their key is gone, or they were changed: {', '.join(unopened[:5])} …")
    return not older and not unopened


def _remove_old(settings: Settings) -> int:
    if settings.encryption_keys:
        _say("Only the first of ENCRYPTION_KEYS is needed now. Keep the others with the backups made before today.")
        return 0
    file = KeyFile(settings.keys_dir / KEYS)
    if old := file.read()[1:]:
        kept = file.retire(old)
        _say(f"Taken out: {len(old)}. They are in {kept}, for the backups made before today; delete it with those.")
    return 0


@contextmanager
def _alone(url: str) -> Iterator[Engine]:
    engine = create_engine(engine_url(url))
    try:
        with engine.connect() as connection:
            _check(connection)
            yield engine
    finally:
        engine.dispose()


def _check(connection: Connection) -> None:
    if connection.execute(_BLIND).scalar():
        raise CannotRun("this role sees no seller's rows; give the owner's address in DATABASE_OWNER_URL")
    if not connection.execute(_ALONE).scalar():
        raise CannotRun("another rotate-keys is at it; wait until it is done")
    connection.commit()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
