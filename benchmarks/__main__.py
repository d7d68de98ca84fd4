"""The benchmarks' door: all of them, or those that are named."""

from __future__ import annotations

import os
import platform
import signal
import sys
from importlib import import_module

from benchmarks.report import Report, as_json

NAMES = (
    "redirect",
    "settle",
    "chain",
    "selection",
    "chat",
    "delivered",
    "memory",
    "rest",
    "size",
    "held",
    "recovery",
    "soak",
    "fairness",
    "bots",
)


def main(names: list[str]) -> int:
    if unknown := set(names) - set(NAMES):
        print(f"there is no benchmark {', '.join(unknown)}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wants_json = os.environ.get("FORMAT", "").lower() == "json"
    reports: dict[str, Report] = {}
    if not wants_json:
        print(f"{_machine()}\n")
    for name in names or NAMES:
        reports[name] = import_module(f"benchmarks.{name}").run()
        if not wants_json:
            print(reports[name].as_text(), flush=True)
    if wants_json:
        print(as_json(_machine(), reports))
    return 0


def _machine() -> str:
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f} before the first benchmark"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
