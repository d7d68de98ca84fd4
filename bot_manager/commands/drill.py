"""`drill`: backs up, restores beside the real database, compares and times it; exit 1 when something differs."""

from __future__ import annotations

import json
import sys

from bot_manager.ops import drill, postgres
from bot_manager.settings import Settings


def main(settings: Settings, words: list[str]) -> int:
    if words:
        sys.stderr.write("usage: python -m bot_manager drill    (FORMAT=json for a machine)\n")
        return 2
    with postgres.running(settings) as urls:
        report = drill.drill(settings, urls)
    told = json.dumps(drill.as_json(report)) if settings.format == "json" else drill.as_text(report)
    sys.stdout.write(f"{told}\n")
    return 1 if report.differences else 0
