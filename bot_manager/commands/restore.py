"""`restore`: the database as a backup has it; see docs/operations.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bot_manager.ops import postgres, processes, restore
from bot_manager.settings import Settings


def main(settings: Settings, words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bot_manager restore")
    parser.add_argument("file", type=Path)
    parser.add_argument("--replace", action="store_true", help="replace what is in the database, after a backup of it")
    chosen = parser.parse_args(words)
    with processes.alone(settings), postgres.running(settings) as urls:
        restore.restore(settings, urls, chosen.file, replace=chosen.replace, say=_say)
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
