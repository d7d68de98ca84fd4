"""The backup of each day, made by the clock, and how many of them are kept.

Under DATA_DIR/backups, one a day and process; what says that a day's is done is the file itself, so that a day on which
nobody worked here is made up for at the next look.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

from bot_manager.ops import backup
from bot_manager.ops.processes import CannotRun
from bot_manager.settings import Settings

logger = logging.getLogger(__name__)

EVERY = timedelta(hours=23)  # looked at each hour: the time of day stays
OLD = timedelta(days=2)
SAFETY_KEPT = timedelta(days=30)
_DAILY = "bot-manager-*.dump"
_SAFETY = "before-restore-*.dump"


def directory(settings: Settings) -> Path:
    return settings.data_dir / "backups"


def newest(settings: Settings) -> datetime | None:
    """When the last good one was made."""
    made = [path.stat().st_mtime for path in _good(directory(settings), "*.dump")]
    return datetime.fromtimestamp(max(made), UTC) if made else None


def path_now(settings: Settings, name: str) -> Path:
    """A name for a backup made now: `name` is what it is for."""
    place = directory(settings)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}.dump"


def make_if_due(settings: Settings, stop: Event | None = None) -> Path | None:
    """Makes today's unless there is one, and deletes those that are too many. Failures are logged: it comes again."""
    if not (settings.backups_kept and settings.database_owner_url):
        return None
    try:
        with _alone(settings) as mine:
            return _make(settings, settings.database_owner_url, stop) if mine and _due(settings) else None
    except (CannotRun, OSError) as error:
        if not (stop and stop.is_set()):
            logger.error("today's backup could not be made", extra={"cause": str(error)})
        return None


def _due(settings: Settings) -> bool:
    made = [path.stat().st_mtime for path in _good(directory(settings), _DAILY)]
    return not made or time.time() - max(made) >= EVERY.total_seconds()


def _make(settings: Settings, owner_url: str, stop: Event | None) -> Path:
    for left in directory(settings).glob(".*.part*"):
        left.unlink()
    made = backup.make(owner_url, path_now(settings, "bot-manager"), stop=stop)
    logger.info("backed up", extra={"path": str(made.path), "bytes": made.size, "seconds": round(made.seconds, 1)})
    _forget(settings)
    return made.path


def _forget(settings: Settings) -> None:
    """Only when a new one is there: the last ones are never deleted for their age."""
    daily = sorted(_good(directory(settings), _DAILY), key=lambda path: path.stat().st_mtime, reverse=True)
    line = time.time() - SAFETY_KEPT.total_seconds()
    safety = [path for path in _good(directory(settings), _SAFETY) if path.stat().st_mtime < line]
    for path in [*daily[settings.backups_kept :], *safety]:
        path.unlink()
        backup.sum_of(path).unlink()


def _good(place: Path, pattern: str) -> list[Path]:
    return [path for path in place.glob(pattern) if backup.sum_of(path).exists()]


@contextmanager
def _alone(settings: Settings) -> Iterator[bool]:
    """Whether no other process of this DATA_DIR is at it."""
    place = directory(settings)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (place / "lock").open("ab") as lock:
        mine = False
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        yield mine
