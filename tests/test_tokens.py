from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.tokens import BadToken, Expired, Foreign, Forged, generate_tracking_token, read_tracking_token

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY = b"k" * 32
OLD_KEY = b"o" * 32
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"


def test_token_fits_a_telegram_start_link():
    assert re.fullmatch(r"[A-Za-z0-9_-]{45}", generate_tracking_token(7, KEY, NOW))


def test_token_tells_its_seller_and_time():
    token = generate_tracking_token(7, KEY, NOW)
    read = read_tracking_token(token, 7, [KEY], NOW)

    assert (read.text, read.seller_id, read.issued_at) == (token, 7, NOW)


def test_tokens_of_one_second_differ():
    assert len({generate_tracking_token(7, KEY, NOW) for _ in range(100)}) == 100


def test_token_signed_before_a_change_of_keys_is_still_good():
    token = generate_tracking_token(7, OLD_KEY, NOW)

    assert read_tracking_token(token, 7, [KEY, OLD_KEY], NOW).seller_id == 7
    with pytest.raises(Forged):
        read_tracking_token(token, 7, [KEY], NOW)


def test_token_of_another_seller_is_foreign():
    with pytest.raises(Foreign):
        read_tracking_token(generate_tracking_token(8, KEY, NOW), 7, [KEY], NOW)


def test_token_expires_after_its_age_and_not_before():
    token = generate_tracking_token(7, KEY, NOW)

    assert read_tracking_token(token, 7, [KEY], NOW + timedelta(days=90))
    with pytest.raises(Expired):
        read_tracking_token(token, 7, [KEY], NOW + timedelta(days=90, seconds=1))


def test_clock_set_back_costs_no_attribution():
    assert read_tracking_token(generate_tracking_token(7, KEY, NOW), 7, [KEY], NOW - timedelta(hours=1))


def test_without_keys_nothing_is_genuine():
    with pytest.raises(Forged):
        read_tracking_token(generate_tracking_token(7, KEY, NOW), 7, [], NOW)


@pytest.mark.parametrize("position", range(45))
def test_any_altered_character_is_noticed(position: int):
    token = generate_tracking_token(7, KEY, NOW)
    other = "A" if token[position] != "A" else "B"

    with pytest.raises(Forged):
        read_tracking_token(token[:position] + other + token[position + 1 :], 7, [KEY], NOW)


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: t + "A", lambda t: t + "\n", lambda t: t[1:], lambda t: ""]
)
def test_cut_or_lengthened_token_is_forged(change):
    with pytest.raises(Forged):
        read_tracking_token(change(generate_tracking_token(7, KEY, NOW)), 7, [KEY], NOW)


@given(
    st.text()
    | st.text(ALPHABET, min_size=40, max_size=50)
    | st.text(ALPHABET, min_size=44, max_size=44).map("t".__add__)
)
def test_made_up_text_is_forged_and_nothing_worse(text: str):
    with pytest.raises(Forged):
        read_tracking_token(text, 7, [KEY], NOW)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_token_is_good_for_its_own_seller_only(maker: int, reader: int):
    token = generate_tracking_token(maker, KEY, NOW)

    assert read_tracking_token(token, maker, [KEY], NOW).seller_id == maker
    if reader != maker:
        with pytest.raises(Foreign):
            read_tracking_token(token, reader, [KEY], NOW)


def test_every_bad_token_is_one_kind_of_value_error():
    assert all(issubclass(kind, BadToken) for kind in (Forged, Foreign, Expired))
    assert issubclass(BadToken, ValueError)
