"""The one door for JSON from outside."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot_manager.strict_json import MAX_DEPTH, MAX_DIGITS, BadJson, loads

REFUSED = {
    "empty": (b"", "not JSON"),
    "blank": (b" ", "not JSON"),
    "trailing data": (b"{} {}", "not JSON"),
    "cut": (b'{"a": ', "not JSON"),
    "single quotes": (b"{'a': 1}", "not JSON"),
    "comment": (b"{} // paid", "not JSON"),
    "leading zero": (b"[01]", "not JSON"),
    "control character": (b'["\x07"]', "not JSON"),
    "other digits": ("[١٢٣]".encode(), "not JSON"),
    "underscore": (b"[1_0]", "not JSON"),
    "nan": (b'{"a": NaN}', "NaN"),
    "infinity": (b"[Infinity]", "NaN"),
    "minus infinity": (b"[-Infinity]", "NaN"),
    "too large": (b"[1e400]", "too large"),
    "too large below zero": (b"[-1e400]", "too large"),
    "many digits": (b"9" * (MAX_DIGITS + 1), "too long"),
    "many decimals": (b"0." + b"1" * MAX_DIGITS, "too long"),
    "thousands of digits": (b"9" * 5000, "too long"),
    "key twice": (b'{"a": 1, "b": {"c": 1, "c": 2}}', "twice"),
    "key twice by escape": (b'{"a": 1, "\\u0061": 2}', "twice"),
    "lone surrogate": (b'["\\ud800"]', "half"),
    "surrogates the wrong way round": (b'["\\udc00\\ud800"]', "half"),
    "surrogate in a key": (b'{"\\udfff": 1}', "half"),
    "nul": (b'["a\\u0000b"]', "NUL"),
    "nul in a key": (b'{"\\u0000": 1}', "NUL"),
    "raw nul": (b'["\x00"]', "not JSON"),
    "not utf-8": (b'["\xff"]', "UTF-8"),
    "overlong": (b'["\xc0\xaf"]', "UTF-8"),
    "surrogate in utf-8": (b'["\xed\xa0\x80"]', "UTF-8"),
    "bom": (b"\xef\xbb\xbf{}", "byte order"),
    "utf-16": ("{}".encode("utf-16-le"), "not JSON"),
    "deep": (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "deep"),
    "deep objects": (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "deep"),
    "very deep": (b"[" * 100_000 + b"]" * 100_000, "deep"),
    "very deep and open": (b"[" * 100_000, "deep"),
}


@pytest.mark.parametrize(("body", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_would_break_something_later_is_refused(body, why):
    with pytest.raises(BadJson, match=why) as caught:
        loads(body)
    assert len(str(caught.value)) < 80


def test_what_is_refused_is_not_quoted():
    with pytest.raises(BadJson) as caught:
        loads(b'{"token": "canary", "token": "canary"')
    assert "canary" not in f"{caught.value!r}"


def test_the_limits_themselves_are_allowed():
    assert loads(b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH)
    assert loads(b"-" + b"9" * MAX_DIGITS) == -int("9" * MAX_DIGITS)


def test_a_pair_of_surrogates_is_one_character():
    assert loads(b'["\\ud83d\\ude00"]') == ["😀"]


@settings(max_examples=200, deadline=None, database=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**60), 10**60)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
        lambda children: (
            st.lists(children)
            | st.dictionaries(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), children)
        ),
    )
)
def test_everything_else_is_read_as_the_standard_parser_reads_it(value):
    body = json.dumps(value).encode()
    assert loads(body) == json.loads(body)


@settings(max_examples=300, deadline=None, database=None)
@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\u0d8e1-.NaInfty ').map(str.encode))
def test_no_bytes_raise_anything_else(body):
    try:
        loads(body)
    except BadJson:
        pass


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 131072 + b"]" * 131072,
        b"{" + b",".join(b'"%d":1' % i for i in range(20_000)) + b"}",
        b"[" + b"1," * 131071,
    ],
    ids=["deep", "many keys", "many items"],
)
def test_a_quarter_of_a_megabyte_takes_no_time(body):
    started = time.process_time()
    try:
        loads(body)
    except BadJson:
        pass
    assert time.process_time() - started < 0.5
