"""`apply`: see docs/shop-file.md."""

from __future__ import annotations

import sys
from pathlib import Path

from bot_manager.commands.core import opened
from bot_manager.settings import Settings
from bot_manager.shop.commands import main_apply


def main(settings: Settings, words: list[str]) -> int:
    if len(words) != 1:
        sys.stderr.write("usage: python -m bot_manager apply FILE\n")
        return 2
    with opened(settings):
        return main_apply(Path(words[0]))
