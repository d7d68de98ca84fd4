"""A click on a redirect link: the click kept, its token minted, the visitor sent on."""

from __future__ import annotations

from benchmarks.levels import added, climb, floors, tail
from benchmarks.report import Report
from benchmarks.shops import Market
from benchmarks.stage import opened


def run() -> Report:
    with opened() as stage:
        market = Market(stage)
        below = floors(stage)
        with stage.web() as web:
            row = climb(stage, "redirect", web, market.clicks, 10000)
    notes = [added(row, floor) for floor in below]
    return Report("Redirect beside its floors (ms; CPU at 16 connections)", [*below, row], notes, [tail(row)])
