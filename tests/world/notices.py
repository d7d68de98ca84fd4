"""How a payment company tells us things: notices posted from its own thread, tried again, copied, held back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import aiohttp

from tests.world.server import Fake


@dataclass
class Notice:
    """One notice on its way. answers: per try, the status it got or the name of what went wrong."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    answers: list[int | str] = field(default_factory=list)
    held: bool = False
    done: bool = False
    answered: asyncio.Event = field(default_factory=asyncio.Event, repr=False)  # the first try is over

    @property
    def delivered(self) -> bool:
        return bool(self.answers) and isinstance(self.answers[-1], int) and self.answers[-1] < 300


class Notifying(Fake):
    """A fake that posts notices. `retry_delay` is what the real one's minutes shrink to; it doubles."""

    tries = 3
    retry_delay = 0.05
    notice_timeout = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.notices: list[Notice] = []

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, copies: int = 1, hold: bool = False
    ) -> list[Notice]:
        """Posts a notice, each copy on its own and all at once. hold: not before `release` says so."""
        made = [Notice(url, body, dict(headers), held=hold) for _ in range(copies)]
        with self.lock:
            self.notices += made
        if not hold:
            for notice in made:
                self.spawn(self.deliver(notice))
        return made

    def release(self, notices: Iterable[Notice] | None = None) -> None:
        """Posts notices held back, in the order given (as made, when none is), each after the other was answered."""
        chosen = list(self.notices if notices is None else notices)
        waiting = [notice for notice in chosen if notice.held]
        for notice in waiting:
            notice.held = False
        self.spawn(self._deliver_in_turn(waiting))

    def wait_delivered(self, notices: Iterable[Notice] | None = None, timeout: float = 5.0) -> list[list[int | str]]:
        """Waits until the notices (all that are not held, when none is given) came to an end; their answers."""
        chosen = [notice for notice in self.notices if not notice.held] if notices is None else list(notices)
        self.wait_for(lambda: all(notice.done for notice in chosen), timeout)
        return [notice.answers for notice in chosen]

    async def _deliver_in_turn(self, notices: list[Notice]) -> None:
        for notice in notices:
            await self.deliver(notice)

    async def deliver(self, notice: Notice) -> None:
        for attempt in range(self.tries):
            if attempt:
                await asyncio.sleep(self.retry_delay * 2 ** (attempt - 1))
            notice.answers.append(await self._try(notice))
            notice.answered.set()
            self.touch()
            if self.accepted(notice.answers[-1]):
                break
        notice.done = True
        self.touch()

    def accepted(self, answer: int | str) -> bool:
        return isinstance(answer, int) and 200 <= answer < 300

    async def _try(self, notice: Notice) -> int | str:
        timeout = aiohttp.ClientTimeout(total=self.notice_timeout)
        post = self.session.post(
            notice.url, data=notice.body, headers=notice.headers, timeout=timeout, allow_redirects=False
        )
        try:
            async with post as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return type(error).__name__
