"""`export`: see docs/shop-file.md."""

from __future__ import annotations

import sys

from bot_manager.commands.core import opened
from bot_manager.settings import Settings
from bot_manager.shop.commands import main_export


def main(settings: Settings, words: list[str]) -> int:
    if len(words) != 1:
        sys.stderr.write("usage: python -m bot_manager export EMAIL\n")
        return 2
    with opened(settings):
        return main_export(words[0])
