"""`backup`: everything but the keys in one file; see docs/operations.md."""

from __future__ import annotations

import sys
from pathlib import Path

from bot_manager.ops import backup, postgres
from bot_manager.ops.processes import CannotRun
from bot_manager.settings import Settings


def main(settings: Settings, words: list[str]) -> int:
    if len(words) != 1:
        sys.stderr.write("usage: python -m bot_manager backup FILE|-\n")
        return 2
    with postgres.running(settings) as urls:
        if words[0] == "-":
            _stream(urls.owner)
        else:
            made = backup.make(urls.owner, Path(words[0]))
            sys.stderr.write(f"{made.path}: {made.size / 1e6:.1f} MB in {made.seconds:.1f} s, read back in full.\n")
    where = "ENCRYPTION_KEYS and SECRET_KEY" if settings.encryption_keys else str(settings.keys_dir)
    sys.stderr.write(f"The keys are not in it: keep a copy of {where} elsewhere, or nobody can read what is sealed.\n")
    return 0


def _stream(owner_url: str) -> None:
    if sys.stdout.isatty():
        raise CannotRun("a backup is not for the screen; send it on, as in `backup - | ssh host 'cat > file'`")
    backup.stream(owner_url, sys.stdout.fileno())
