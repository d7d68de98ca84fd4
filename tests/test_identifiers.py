from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.identifiers import choose_fbc, make_fbc, make_fbp, read_facebook_id

NOW = datetime(2026, 11, 22, 12, 0, 0, 123_000, tzinfo=UTC)
MS = 1795348800123
CLICK = "IwAR2F4-dbP0l7Mn1IawQQGCINEz7PYXQvwjNwB_qa2ofrHyiLjcbCRxTDMgk"


def test_fbc_is_the_click_id_as_it_came():
    assert make_fbc(CLICK, NOW) == f"fb.1.{MS}.{CLICK}"


def test_fbp_reads_back_and_no_two_are_alike():
    made = {make_fbp(NOW) for _ in range(100)}

    assert len(made) == 100
    assert all(read_facebook_id(value, NOW).created_at == NOW for value in made)


@pytest.mark.parametrize("end", ["", ".AQ", ".AQICAQMC"])
def test_value_of_metas_libraries_is_valid_with_and_without_their_mark(end: str):
    assert read_facebook_id(f"fb.1.{MS}.{CLICK}{end}", NOW) == (NOW, CLICK)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "a.b.c.d",
        "fb.1.123.abc",
        f"fb.3.{MS}.abc",
        f"FB.1.{MS}.abc",
        f"fb.1.{MS}.",
        f"fb.1.{MS}.a b",
        f"fb.1.{MS}.abc\n",
        f"fb.1.{MS}.abc\r\nSet-Cookie: x",
        f"fb.1.{MS}.abc.AQI",
        f"fb.1.{MS}.<script>",
        f"fb.1.{MS}." + "a" * 501,
        "fb.1.٠١٢٣٤٥٦٧٨٩٠١٢.abc",
        "fb.1.0000000000000.abc",
        "fb.1.9999999999999.abc",
    ],
)
def test_what_is_no_identifier_is_dropped(value: str | None):
    assert read_facebook_id(value, NOW) is None


def test_browser_clock_may_be_a_day_ahead_but_no_more():
    assert read_facebook_id(make_fbp(NOW + timedelta(hours=23)), NOW)
    assert not read_facebook_id(make_fbp(NOW + timedelta(hours=25)), NOW)


@pytest.mark.parametrize("fbclid", ["", "a.b", "a b", "a\r\nb", "é", "a%2Fb", "a" * 501])
def test_no_fbc_is_made_of_what_is_no_click_id(fbclid: str):
    assert make_fbc(fbclid, NOW) is None


def test_same_click_keeps_its_first_time():
    cookie = make_fbc(CLICK, NOW - timedelta(days=3))

    assert choose_fbc(cookie, CLICK, NOW) == cookie
    assert choose_fbc(cookie + ".AQICAQMC", CLICK, NOW) == cookie + ".AQICAQMC"


def test_newer_click_replaces_the_older():
    assert choose_fbc(make_fbc("older", NOW), CLICK, NOW) == make_fbc(CLICK, NOW)


def test_click_ids_that_differ_in_case_are_two_clicks():
    assert choose_fbc(make_fbc("abc", NOW - timedelta(days=1)), "ABC", NOW) == make_fbc("ABC", NOW)


def test_visit_without_click_keeps_a_valid_cookie_only():
    cookie = make_fbc(CLICK, NOW)

    assert choose_fbc(cookie, None, NOW) == cookie
    assert choose_fbc("a.b.c.d", "", NOW) is None


def test_unusable_click_id_leaves_the_cookie():
    cookie = make_fbc(CLICK, NOW)

    assert choose_fbc(cookie, "a b", NOW) == cookie


@given(st.text())
def test_no_text_breaks_the_reader(text: str):
    assert read_facebook_id(text, NOW) is None
    made = make_fbc(text, NOW)
    assert made is None or read_facebook_id(made, NOW) == (NOW, text)
