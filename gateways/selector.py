"""Which gateway is asked first, who comes next when it fails, and how long each may take. Pure: the turn is the
caller's to count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heapify, heapreplace
from itertools import groupby
from math import ceil, gcd

MAX_WEIGHT = 1000
FAIR_TRIES = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """One gateway account that could be asked.

    priority: the lowest number is asked first.
    weight: its share among those of the same priority, 0 to MAX_WEIGHT; 0 is never first while another has a share.
    active: False when switched off by the seller, or skipped by an open breaker.
    """

    id: int
    priority: int
    weight: int
    active: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= MAX_WEIGHT:
            raise ValueError(f"a weight is 0 to {MAX_WEIGHT}")


def order(candidates: Iterable[Candidate], turn: int) -> list[Candidate]:
    """The active candidates, in the order to try them. turn: the number of decisions made so far.

    Within one priority, any run of as many turns as the weights (in lowest terms) add up to gives each its exact
    share of first places.
    """
    return [candidate for tier in _tiers(candidates) for candidate in _rotated(tier, turn)]


def first_tier(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those who share the first places among them."""
    return next(_tiers(candidates), [])


def turns(tier: list[Candidate]) -> int:
    """How many turns a round of these has; one when there is nothing to take turns about."""
    return sum(_shares(tier)) if len(tier) > 1 else 1


def patience(left: float, others: int) -> float:
    """The seconds that one try may take. others: who would like a fair try after it; the first three get one."""
    return left / min(FAIR_TRIES, 1 + others)


def _tiers(candidates: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    active = sorted((c for c in candidates if c.active), key=lambda c: (c.priority, c.id))
    return (list(tier) for _, tier in groupby(active, key=lambda c: c.priority))


def _rotated(tier: list[Candidate], turn: int) -> list[Candidate]:
    """Whoever's turn it is, then the others as their turns come, then those without a share.

    The k-th turn of a share w stands at (2k + 1) / 2w of a round; sorted by that, 3 and 1 are a a b a, not a a a b.
    Equal fractions are equal floats, so nothing is lost to rounding. A round may have 50,000 turns: it is entered a
    little before the wanted turn, not walked through.
    """
    shares = _shares(tier)
    sharing = [place for place, share in enumerate(shares) if share]
    total = sum(shares)
    wanted = turn % total
    entry = max(0, wanted - len(sharing)) / total
    taken = {place: max(0, ceil(shares[place] * entry - 0.5)) for place in sharing}
    coming = [(_stands_at(taken[place], shares[place]), place) for place in sharing]
    heapify(coming)
    for _ in range(wanted - sum(taken.values())):
        place = coming[0][1]
        taken[place] += 1
        heapreplace(coming, (_stands_at(taken[place], shares[place]), place))
    spares = [place for place, share in enumerate(shares) if not share]
    return [tier[place] for place in [*(place for _, place in sorted(coming)), *spares]]


def _stands_at(turn: int, share: int) -> float:
    return (2 * turn + 1) / (2 * share)


def _shares(tier: list[Candidate]) -> list[int]:
    weights = [candidate.weight for candidate in tier]
    common = gcd(*weights)
    return [weight // common for weight in weights] if common else [1] * len(tier)
