"""When a gateway is left alone, and when it is tried again: values in, values out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateways.breaker import (
    FIRST_PAUSE,
    FORGETS_AFTER,
    LONGEST_PAUSE,
    MOST_OF_WINDOW,
    OPENS_AFTER,
    PROBE_TAKES,
    WINDOW,
    Breaker,
    State,
    Verdict,
    after,
    state,
)

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def failing(times, breaker=None, now=NOW):
    breaker = breaker or Breaker()
    for _ in range(times):
        breaker = after(breaker, Verdict.BAD, now)
    return breaker


def test_five_failures_in_a_row_open_it_and_four_do_not():
    assert state(failing(4), NOW) is State.CLOSED
    assert state(failing(5), NOW) is State.OPEN


def test_a_success_between_begins_the_row_anew():
    assert state(failing(4, after(failing(4), Verdict.GOOD, NOW)), NOW) is State.CLOSED


def tried(outcomes, breaker=None, now=NOW, every=SECOND):
    breaker = breaker or Breaker()
    for outcome in outcomes:
        breaker, now = (
            after(breaker, {"+": Verdict.GOOD, "-": Verdict.BAD, "?": Verdict.NOTHING}[outcome], now),
            now + every,
        )
    return breaker


@pytest.mark.parametrize(
    "story", ["+-" * 10, "-+" * 9 + "-", "--+" * 4 + "--", "+++-" + "-+" * 8 + "-", "-?+?" * 9 + "-"]
)
def test_failing_ten_times_of_twenty_opens_it_without_any_row(story):
    assert tried(story[:-1]).open_until is None
    assert tried(story).open_until is not None


@pytest.mark.parametrize("story", ["-++" * 30, "-+" * 9 + "+" * 11 + "-+" * 4, "?" * 100, "-???+" * 9])
def test_failing_more_rarely_does_not(story):
    assert tried(story).open_until is None


def test_ten_failures_over_hours_do_not():
    assert tried("+-" * 30, every=FORGETS_AFTER + SECOND).open_until is None


def test_what_was_held_against_it_before_a_pause_is_not_after_it():
    opened = tried("+-" * 10)
    closed = after(opened, Verdict.GOOD, opened.open_until, probe=True)
    assert tried("-", closed, opened.open_until).open_until is None


def test_failures_of_long_ago_are_no_row():
    later = NOW + FORGETS_AFTER + SECOND
    assert failing(1, failing(4), later).failures == 1


def test_what_says_nothing_of_its_health_changes_nothing():
    for breaker in (Breaker(), failing(4), failing(5)):
        assert after(breaker, Verdict.NOTHING, NOW) == breaker


def test_after_its_pause_it_is_due_and_while_probed_it_is_not():
    breaker = failing(5)
    due = NOW + FIRST_PAUSE
    assert state(breaker, due - SECOND) is State.OPEN
    assert state(breaker, due) is State.DUE
    probed = Breaker(5, NOW, 1, due, due + PROBE_TAKES)
    assert state(probed, due + SECOND) is State.PROBING
    assert state(probed, due + PROBE_TAKES) is State.DUE  # whoever probed it is dead


def test_a_probe_that_fails_doubles_the_pause_up_to_its_limit():
    breaker, now, pauses = failing(5), NOW, []
    for _ in range(8):
        pauses.append(breaker.open_until - now)
        now = breaker.open_until
        breaker = after(breaker, Verdict.BAD, now, probe=True)
    assert pauses[:5] == [FIRST_PAUSE * 2**n for n in range(5)]
    assert pauses[-1] == LONGEST_PAUSE


def test_a_probe_that_succeeds_closes_it_whole():
    closed = after(failing(5), Verdict.GOOD, NOW + FIRST_PAUSE, probe=True)
    assert closed == Breaker(failed_at=NOW, outcomes="+")


def test_a_probe_that_was_refused_leaves_it_due():
    due = NOW + FIRST_PAUSE
    probed = Breaker(5, NOW, 1, due, due + PROBE_TAKES)
    assert state(after(probed, Verdict.NOTHING, due, probe=True), due) is State.DUE


def test_a_straggler_puts_the_probe_off_for_nobody():
    breaker = failing(5)
    assert failing(1, breaker, NOW + SECOND).open_until == breaker.open_until


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(st.tuples(st.sampled_from(Verdict), st.integers(0, 2000)), max_size=60))
def test_whatever_happens_it_opens_only_for_five_failures_or_ten_of_twenty_and_always_comes_back(story):
    breaker, now, row, tries = Breaker(), NOW, 0, []
    for verdict, seconds in story:
        now += timedelta(seconds=seconds)
        probe = state(breaker, now) is State.DUE
        was_closed = breaker.open_until is None
        breaker = after(breaker, verdict, now, probe=probe)
        row = {Verdict.GOOD: 0, Verdict.BAD: row + 1, Verdict.NOTHING: row}[verdict]
        tries += [verdict] if verdict is not Verdict.NOTHING else []
        if was_closed and breaker.open_until is not None:
            assert row >= OPENS_AFTER or tries[-WINDOW:].count(Verdict.BAD) >= MOST_OF_WINDOW
        if verdict is Verdict.GOOD:
            assert (breaker.failures, breaker.openings, breaker.open_until) == (0, 0, None)
        if breaker.open_until is not None:
            assert breaker.open_until <= now + LONGEST_PAUSE
            assert state(breaker, now + LONGEST_PAUSE + PROBE_TAKES) is State.DUE
