"""Whose job comes next: lanes take turns, and so do the shares of a lane, one job a turn.

A share is whoever's backlog must not be another's: a bot in the chats, a seller elsewhere. None may hold more of a
worker's slots than it leaves free, so that slow work of a few never takes them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

Key = tuple[str, str]  # a lane and a share


class Turns:
    """One worker's. slots: how many jobs it runs at once; clock: seconds that only go forward."""

    def __init__(self, lanes: Iterable[str], slots: int, clock: Callable[[], float]) -> None:
        self._slots = slots
        self._clock = clock
        self._served = dict.fromkeys(lanes, "")
        self._held: dict[int, Key] = {}
        self._rests: dict[Key, float] = {}

    def lanes(self) -> list[tuple[str, str]]:
        """Each lane with the share served last in it, the lane whose turn it is first."""
        return list(self._served.items())

    def full(self) -> list[Key]:
        """The shares that hold as many slots as are free, or more."""
        free = self._slots - len(self._held)
        return [key for key, held in Counter(self._held.values()).items() if held >= free]

    def resting(self) -> list[Key]:
        now = self._clock()
        self._rests = {key: until for key, until in self._rests.items() if until > now}
        return list(self._rests)

    def begin(self, job: int, lane: str, share: str) -> None:
        """A job was taken: its lane and its share come last now."""
        self._held[job] = (lane, share)
        self._served.pop(lane, None)
        self._served[lane] = share

    def end(self, job: int) -> None:
        self._held.pop(job, None)

    def rest(self, lane: str, share: str, seconds: float) -> None:
        """The share is passed over for so long."""
        self._rests[lane, share] = self._clock() + seconds

    def crowded(self) -> bool:
        """Whether half of the slots are taken."""
        return len(self._held) * 2 >= self._slots

    def begin_anew(self) -> None:
        """No job is held any more."""
        self._held.clear()
