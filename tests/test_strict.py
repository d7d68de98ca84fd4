"""The one parser for what comes from outside."""

from __future__ import annotations

import gzip
import json
import time
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot_manager.network.strict import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_FIELDS,
    MAX_VALUES,
    Unreadable,
    form,
    is_packed,
    loads,
    number,
)

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
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
    "many values": (b"[" + b"0," * MAX_VALUES + b"0]", "too many values"),
    "large": (b" " * MAX_BYTES + b"1", "too large"),
    "gzip": (gzip.compress(b"{}"), "UTF-8"),
    "utf-16 with its mark": ("{}".encode("utf-16"), "UTF-8"),
    "utf-32": ("{}".encode("utf-32-be"), "not JSON"),
}


@pytest.mark.parametrize(("body", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_would_break_something_later_is_refused(body, why):
    with pytest.raises(Unreadable, match=why) as caught:
        loads(body)
    assert len(str(caught.value)) < 80


def test_what_is_refused_is_not_quoted():
    with pytest.raises(Unreadable) as caught:
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
        | TEXT,
        lambda children: st.lists(children) | st.dictionaries(TEXT, children),
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
    except Unreadable:
        pass


# Forms ------------------------------------------------------------------------------------------------------------

REFUSED_FORMS = {
    "field twice": (b"id=1&id=2", "twice"),
    "field twice by escape": (b"id=1&%69d=2", "twice"),
    "no field": (b"paid", "not a form"),
    "an empty pair": (b"a=1&&b=2", "not a form"),
    "many fields": (b"&".join(b"a%d=1" % n for n in range(MAX_FIELDS + 1)), "too many fields"),
    "percent and no digits": (b"a=%zz", "percent"),
    "percent at the end": (b"a=1%", "percent"),
    "percent and one digit": (b"a=%4", "percent"),
    "not utf-8": (b"a=%ff", "UTF-8"),
    "overlong": (b"a=%c0%af", "UTF-8"),
    "surrogate": (b"a=%ed%a0%80", "UTF-8"),
    "raw bytes": (b"a=\xff", "UTF-8"),
    "nul": (b"a=b%00c", "NUL"),
    "nul in a name": (b"a%00=b", "NUL"),
    "bom": (b"\xef\xbb\xbfa=1", "byte order"),
    "utf-16": ("a=1".encode("utf-16"), "UTF-8"),
    "large": (b"a=" + b"x" * MAX_BYTES, "too large"),
}


@pytest.mark.parametrize(("body", "why"), REFUSED_FORMS.values(), ids=REFUSED_FORMS.keys())
def test_a_form_that_can_be_read_two_ways_is_refused(body, why):
    with pytest.raises(Unreadable, match=why) as caught:
        form(body)
    assert len(str(caught.value)) < 80


def test_a_form_is_read_as_it_was_written():
    assert form(b"") == {}
    assert form(b"t=a-b_c&nome=Jo%C3%A3o+Silva&vazio=&f%5Bx%5D=%F0%9F%98%80") == {
        "t": "a-b_c",
        "nome": "João Silva",
        "vazio": "",
        "f[x]": "😀",
    }
    assert len(form(b"&".join(b"a%d=1" % n for n in range(MAX_FIELDS)))) == MAX_FIELDS


@settings(max_examples=200, deadline=None, database=None)
@given(st.dictionaries(TEXT, TEXT, max_size=20))
def test_every_form_that_the_standard_library_writes_is_read(fields):
    assert form(urlencode(fields).encode()) == fields


@settings(max_examples=300, deadline=None, database=None)
@given(st.binary(max_size=200) | st.text(alphabet="a1=&;%+0f\x00é").map(str.encode))
def test_no_bytes_of_a_form_raise_anything_else(body):
    try:
        form(body)
    except Unreadable:
        pass


# Numbers, packing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "١٢٣", "1_0", " 1", "1 ", "+1", "-1", "1.0", "1e3", "²", "१", "9" * 19, "1\n"])
def test_what_is_no_plain_number_is_none(text):
    assert number(text) is None


def test_plain_numbers_are_read():
    assert [number(text) for text in ("0", "007", "9" * 18)] == [0, 7, 10**18 - 1]


def test_only_a_body_that_has_to_be_unpacked_is_packed():
    assert [is_packed(value) for value in (None, "", "identity", "Identity ", "gzip", "br", "identity, gzip")] == [
        *[False] * 4,
        *[True] * 3,
    ]


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
    except Unreadable:
        pass
    assert time.process_time() - started < 0.5
