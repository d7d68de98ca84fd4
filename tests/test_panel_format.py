"""Money and time, as the panel writes them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from web.panel import chart, format  # noqa: A004
from web.panel.figures import Day

SAO_PAULO = ZoneInfo("America/Sao_Paulo")
NOW = datetime(2026, 11, 22, 15, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cents", "text"),
    [(0, "R$ 0,00"), (5, "R$ 0,05"), (184730, "R$ 1.847,30"), (123456789, "R$ 1.234.567,89"), (-990, "-R$ 9,90")],
)
def test_money_is_written_as_in_brazil_and_never_breaks(cents: int, text: str) -> None:
    assert text.replace("R$ ", "R$\u00a0") == format.money(cents)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "agora"),
        (59, "agora"),
        (60, "há 1 min"),
        (3599, "há 59 min"),
        (3600, "há 1 h"),
        (23 * 3600, "há 23 h"),
        (25 * 3600, "ontem"),
        (3 * 86400, "há 3 dias"),
        (30 * 86400, "23/10/2026"),
    ],
)
def test_time_is_told_as_people_tell_it(seconds: int, text: str) -> None:
    assert text == format.ago(NOW - timedelta(seconds=seconds), NOW, SAO_PAULO)


def test_clocks_show_the_sellers_time() -> None:
    assert format.clock(NOW, SAO_PAULO) == "12:04"
    assert format.moment(NOW, SAO_PAULO) == "22/11/2026 12:04"


def test_days_have_names() -> None:
    today = date(2026, 11, 22)

    assert format.day(today) == "domingo, 22 de novembro"
    assert format.day_near(today, today) == "Hoje"
    assert format.day_near(date(2026, 11, 21), today) == "Ontem"
    assert format.day_near(date(2026, 11, 20), today) == "Sexta-feira, 20 de novembro"


@pytest.mark.parametrize(("part", "whole", "text"), [(0, 0, "–"), (37, 54, "69%"), (5, 5, "100%")])
def test_a_share_of_nothing_is_a_dash(part: int, whole: int, text: str) -> None:
    assert text == format.percent(part, whole)


@pytest.mark.parametrize(
    ("cents", "top"), [(0, 10_000), (9_900, 10_000), (63_380, 80_000), (100_000, 100_000), (100_001, 200_000)]
)
def test_the_axis_ends_at_a_round_number(cents: int, top: int) -> None:
    assert top == chart.round_up(cents)


def test_bars_stand_on_the_ground_and_the_highest_fits() -> None:
    days = [Day(date(2026, 11, 1) + timedelta(days=n), cents, 1) for n, cents in enumerate([0, 50_000, 80_000])]

    drawn = chart.draw(days)

    assert [bar.y + bar.height for bar in drawn.bars] == [100, 100, 100]
    assert drawn.bars[2].y == 0
    assert drawn.ticks == (80_000, 40_000, 0)
    assert days[2] == drawn.best
