"""Child processes that are started again when they end and that end with us."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

logger = logging.getLogger(__name__)

_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds to the next start, by how often in a row it has died young
_YOUNG = 10.0
_GRACE = 25.0  # seconds that programs get to finish what they are at
_LEFTOVERS_GRACE = 3.0


class Child(Protocol):
    def poll(self) -> int | None: ...


class Process:
    """Is started again whenever it has ended: at once, or ever later while it keeps dying young.

    start: an exception it raises counts as an early death.
    """

    def __init__(self, name: str, start: Callable[[], Child]) -> None:
        self.name = name
        self.child: Child | None = None
        self._start = start
        self._began = self._due = 0.0
        self._young_deaths = 0

    def tend(self) -> None:
        if self.child is None:
            if time.monotonic() >= self._due:
                self._begin()
        elif (code := self.child.poll()) is not None:
            self._ended(f"ended ({code})")

    def _begin(self) -> None:
        self._began = time.monotonic()
        try:
            self.child = self._start()
        except Exception as error:  # noqa: BLE001 - whatever it was, the others must be tended on
            self._ended(f"did not start ({error})")

    def _ended(self, how: str) -> None:
        self.child = None
        now = time.monotonic()
        self._young_deaths = self._young_deaths + 1 if now - self._began < _YOUNG else 0
        pause = _PAUSES[min(self._young_deaths, len(_PAUSES) - 1)]
        self._due = now + pause
        logger.warning("%s %s, next start in %s s", self.name, how, pause)


class Program(Process):
    """A command line.

    It has a process group of its own, so that the terminal's Ctrl-C reaches us alone, and the kernel sends it SIGTERM
    when we die. Its environment is ours with `extra`.
    """

    def __init__(self, name: str, words: Sequence[str], extra: Sequence[str] = ()) -> None:
        super().__init__(name, self._spawn)
        self._words = ["env", *extra, "setpriv", "--pdeathsig=TERM", "--", *words]
        self._process: subprocess.Popen[bytes] | None = None

    def _spawn(self) -> Child:
        self.kill()  # what a dead leader left would keep its port from the new one
        self._process = subprocess.Popen(self._words, stdin=subprocess.DEVNULL, process_group=0)  # noqa: S603
        return self._process

    def terminate(self) -> None:
        if self._process:
            self._process.terminate()

    def wait(self, seconds: float) -> None:
        if self._process:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(max(seconds, 0))

    def kill(self) -> None:
        """The whole group."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def stop(programs: Sequence[Program]) -> None:
    """All are asked at once, and killed if they aren't done in time."""
    deadline = time.monotonic() + _GRACE
    try:
        for program in programs:
            program.terminate()
        for program in programs:
            program.wait(deadline - time.monotonic())
    finally:
        for program in programs:
            program.kill()


def end_leftovers(mark: str) -> None:
    """Ends the processes whose environment has `mark` ("NAME=value"), as children of a killed supervisor have."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in _marked(mark):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + _LEFTOVERS_GRACE
        while _marked(mark) and time.monotonic() < deadline:
            time.sleep(0.05)


def _marked(mark: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or is another user's
            if os.fsencode(mark) in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return [pid for pid in found if pid != os.getpid()]
