"""Which gateway is asked first, and who comes next when it fails. Pure: the turn is the caller's to count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import gcd

MAX_WEIGHT = 1000


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
    active = sorted((c for c in candidates if c.active), key=lambda c: (c.priority, c.id))
    tiers = groupby(active, key=lambda c: c.priority)
    return [candidate for _, tier in tiers for candidate in _rotated(list(tier), turn)]


def _rotated(tier: list[Candidate], turn: int) -> list[Candidate]:
    """Whoever's turn it is, then the others as their turns come, then those without a share."""
    places = _round(_shares(tier))
    start = turn % len(places)
    first_to_last = dict.fromkeys([*places[start:], *places[:start], *range(len(tier))])
    return [tier[place] for place in first_to_last]


def _shares(tier: list[Candidate]) -> tuple[int, ...]:
    weights = [candidate.weight for candidate in tier]
    common = gcd(*weights)
    return tuple(weight // common for weight in weights) if common else (1,) * len(tier)


@lru_cache(maxsize=256)
def _round(shares: tuple[int, ...]) -> tuple[int, ...]:
    """One whole round of smooth weighted round robin: 3 and 1 are a a b a, not a a a b."""
    total = sum(shares)
    credit = [0] * len(shares)
    places = []
    for _ in range(total):
        credit = [have + share for have, share in zip(credit, shares, strict=True)]
        place = credit.index(max(credit))
        credit[place] -= total
        places.append(place)
    return tuple(places)
