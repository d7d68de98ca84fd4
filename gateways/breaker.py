"""When a gateway account is left alone for a while: a circuit breaker as values, without clock or store.

Closed, it counts failures in a row and among the last twenty tries. Five in a row or ten of twenty open it, for 30
seconds at first and up to 15 minutes when it opens again and again. Once that time is over it is due: the next sale for
it is the probe, one at a time. A success closes it. What the provider refuses (a buyer's or a request's mistake) says
nothing of its health and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

OPENS_AFTER = 5
WINDOW = 20  # tries that said something of its health
MOST_OF_WINDOW = 10  # failures among them
FORGETS_AFTER = timedelta(minutes=30)  # a failure long ago is no row with one now
CHARGED, FAILED = "+", "-"
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=15)
PROBE_TAKES = timedelta(seconds=15)  # a probe that is under way longer belongs to the dead


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    DUE = "due"  # half-open: whoever comes next may probe
    PROBING = "probing"  # half-open, and somebody does


class Verdict(StrEnum):
    """What one try says of the gateway's health."""

    GOOD = "good"
    BAD = "bad"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Breaker:
    """failures: in a row; the last one of all at failed_at. openings: in a row, without a success between.

    open_until: when a probe is due; None when closed. probe_until: when a probe under way is given up.
    outcomes: what came of the last tries since it was closed, the newest last, a CHARGED or a FAILED each.
    """

    failures: int = 0
    failed_at: datetime | None = None
    openings: int = 0
    open_until: datetime | None = None
    probe_until: datetime | None = None
    outcomes: str = ""


def state(breaker: Breaker, now: datetime) -> State:
    if breaker.open_until is None:
        return State.CLOSED
    if breaker.open_until > now:
        return State.OPEN
    return State.PROBING if breaker.probe_until and breaker.probe_until > now else State.DUE


def after(breaker: Breaker, verdict: Verdict, now: datetime, *, probe: bool = False) -> Breaker:
    """The breaker after a try. probe: it was the probe of a breaker that was due."""
    if verdict is Verdict.GOOD:
        return Breaker(failed_at=breaker.failed_at, outcomes=f"{breaker.outcomes}{CHARGED}"[-WINDOW:])
    if verdict is Verdict.NOTHING:
        return replace(breaker, probe_until=None) if probe else breaker
    if breaker.open_until is not None:
        failed = replace(breaker, failures=breaker.failures + 1, failed_at=now)
        # One that had begun before, or was tried for want of a better one, must not put the probe off.
        return _opened(failed, now) if probe else failed
    before = Breaker() if _forgotten(breaker, now) else breaker
    outcomes = f"{before.outcomes}{FAILED}"[-WINDOW:]
    failed = replace(before, failures=before.failures + 1, failed_at=now, outcomes=outcomes)
    return _opened(failed, now) if _is_too_much(failed) else failed


def _forgotten(breaker: Breaker, now: datetime) -> bool:
    return breaker.failed_at is not None and now - breaker.failed_at > FORGETS_AFTER


def _is_too_much(breaker: Breaker) -> bool:
    return breaker.failures >= OPENS_AFTER or breaker.outcomes.count(FAILED) >= MOST_OF_WINDOW


def _opened(breaker: Breaker, now: datetime) -> Breaker:
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(breaker.openings, 20))
    return replace(breaker, openings=breaker.openings + 1, open_until=now + pause, probe_until=None, outcomes="")
