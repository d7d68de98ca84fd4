"""Turns at the threads: requests wait in a line for each address, and the lines are served one after the other.

An address holds one thread at a time: threads share one interpreter, and a second one of a flood would take from all
others what it gives to it. When all places are taken, the longest line gives one up to whoever comes with a shorter
one: a flood crowds out itself.
"""

from __future__ import annotations

import asyncio
from collections import deque

Line = deque[asyncio.Future[bool]]


class Turns:
    """For one event loop. places: how many requests may have a thread or wait for one; in_line: how many wait in one
    address's line."""

    def __init__(self, threads: int, places: int, in_line: int) -> None:
        self._free = threads
        self._places = places
        self._in_line = in_line
        self._served: set[str] = set()
        self._lines: dict[str, Line] = {}  # the one whose turn it is comes first; none is empty

    async def take(self, address: str) -> bool:
        """True when a thread is this request's, to be given back by `leave`; False when too many wait."""
        if address not in self._lines and self._may(address):
            if self._taken() >= self._places and not self._make_room(0):
                return False
            self._hold(address)
            return True
        return await self._wait(address)

    def leave(self, address: str) -> None:
        self._free += 1
        self._served.remove(address)
        self._serve()

    async def _wait(self, address: str) -> bool:
        length = len(self._lines.get(address, ()))
        if length >= self._in_line or (self._taken() >= self._places and not self._make_room(length + 1)):
            return False
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(address, deque()).append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            self._give_up(address, turn)
            raise

    def _give_up(self, address: str, turn: asyncio.Future[bool]) -> None:
        if not turn.cancelled() and turn.result():
            self.leave(address)
        elif turn in self._lines.get(address, ()):
            self._lines[address].remove(turn)
            self._drop_if_empty(address)

    def _may(self, address: str) -> bool:
        return self._free > 0 and address not in self._served

    def _taken(self) -> int:
        return len(self._served) + sum(map(len, self._lines.values()))

    def _hold(self, address: str) -> None:
        self._free -= 1
        self._served.add(address)

    def _serve(self) -> None:
        for address in list(self._lines):
            if self._may(address) and (turn := self._next(address)):
                self._hold(address)
                turn.set_result(True)

    def _next(self, address: str) -> asyncio.Future[bool] | None:
        """The first in the line who is still there; the line goes to the end of the lines."""
        line = self._lines.pop(address)
        turn = line.popleft()
        while turn.done() and line:
            turn = line.popleft()
        if line:
            self._lines[address] = line
        return None if turn.done() else turn

    def _make_room(self, length: int) -> bool:
        """Sends the last of the longest line away, if that line is longer than this one."""
        longest = max(self._lines, key=lambda address: len(self._lines[address]), default=None)
        if longest is None or len(self._lines[longest]) <= length:
            return False
        last = self._lines[longest].pop()
        if not last.done():
            last.set_result(False)
        self._drop_if_empty(longest)
        return True

    def _drop_if_empty(self, address: str) -> None:
        if not self._lines[address]:
            del self._lines[address]
