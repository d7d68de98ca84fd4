"""Bars drawn by the server: only numbers as attributes, so that a strict content policy lets them through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from web.panel.figures import Day

PITCH, WIDTH, HEIGHT = 10, 7, 100  # in the drawing's own units; the browser stretches it
_STEPS = (1, 2, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True, slots=True)
class Bar:
    day: Day
    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """ticks: the axis in cents, from the top down. total and best are for who can't see the bars."""

    bars: tuple[Bar, ...]
    ticks: tuple[int, ...]
    width: int
    height: int
    total: int
    best: Day

    @property
    def labels(self) -> tuple[Day, ...]:
        """The days that are written below: some five of them, today among them."""
        return tuple(bar.day for bar in self.bars[::-7])[::-1]


def draw(days: Sequence[Day]) -> Chart:
    top = round_up(max(day.cents for day in days))
    bars = tuple(_bar(number, day, top) for number, day in enumerate(days))
    ticks = (top, top // 2, 0)
    best = max(days, key=lambda day: day.cents)
    return Chart(bars, ticks, PITCH * len(days), HEIGHT, sum(day.cents for day in days), best)


def _bar(number: int, day: Day, top: int) -> Bar:
    height = max(round(HEIGHT * day.cents / top, 2), 1.5 if day.cents else 0.6)
    return Bar(day, number * PITCH + (PITCH - WIDTH) / 2, round(HEIGHT - height, 2), height)


def round_up(cents: int) -> int:
    """The end of an axis that holds the value: a round number, R$ 100 at least."""
    power = 10_000
    while power * 10 < cents:
        power *= 10
    return next(int(power * step) for step in _STEPS if power * step >= cents or step == 10)
