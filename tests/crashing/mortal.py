"""A product whose processes die where a test says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy.exc import OperationalError

from tests.product import Product
from tests.world import World

BEAT_S = 0.5  # between two looks, after each of which the clock is set forward


class Mortal(Product):
    """A product whose processes die at the points that are armed."""

    def __init__(self, world: World, home: Path) -> None:
        self.armed = home / "armed"
        self.armed.mkdir()
        super().__init__(world, home, PYTHONPATH=str(Path(__file__).parent), CRASH_AT=str(self.armed))

    @contextmanager
    def dies_when(self, *points: str, victim: str = "self") -> Iterator[None]:
        """The process that gets there dies, or the database under it; that it happened is asserted at the end."""
        said = {"postgres": self.server.name}.get(victim, victim)
        for point in points:
            (self.armed / point).write_text(said)
        try:
            yield
            assert [point for point in points if not self.reached(point)] == []
        finally:
            for file in self.armed.iterdir():
                file.unlink()

    def deaths(self, point: str) -> int:
        """How many died of what kills each time, so far."""
        reached = self.armed / f"{point}.reached"
        return len(reached.read_text().splitlines()) if reached.exists() else 0

    def reached(self, point: str) -> bool:
        return (self.armed / f"{point}.reached").exists()

    def bury(self) -> None:
        """The dead are known to be dead at once: how long that takes is another test's matter."""
        with suppress(OperationalError):
            self.change(
                "update procrastinate_workers set last_heartbeat = 'epoch' where last_heartbeat < now() - interval '2.5 s'"
            )
