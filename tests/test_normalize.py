from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracking import normalize

VECTORS = json.loads(Path(__file__).with_name("normalize_vectors.json").read_text(encoding="utf-8"))["vectors"]
RULES: dict[str, Callable] = {
    "em": normalize.email,
    "ph": normalize.phone,
    "fn": normalize.name,
    "ln": normalize.name,
    "ct": normalize.city,
    "st": normalize.state,
    "zp": normalize.postcode,
    "country": normalize.country,
    "db": normalize.birth_date,
    "ge": normalize.gender,
    "external_id": normalize.external_id,
}


def forms(field: str, value: str | None) -> list[str]:
    found = RULES[field](value)
    return found if isinstance(found, list) else [found] if found else []


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_value_is_written_the_way_that_matches(vector: dict):
    found = forms(vector["field"], vector["input"])

    assert found == vector["expected"]
    assert [normalize.hash_value(form) for form in found] == vector["sha256"]


@pytest.mark.parametrize("field", RULES)
def test_hash_given_in_place_of_a_value_passes_in_lower_case(field: str):
    assert [normalize.hash_value(form) for form in forms(field, "AB" * 32)] == ["ab" * 32]


@pytest.mark.parametrize("field", RULES)
def test_nothing_gives_nothing(field: str):
    assert forms(field, None) == forms(field, " ") == []


@pytest.mark.parametrize("field", RULES)
@example("\u0339:\u0334")
@given(st.text(st.characters()))
def test_no_text_breaks_a_rule_and_what_comes_out_stays_as_it_is(field: str, text: str):
    for form in forms(field, text):
        assert form in forms(field, form)
        assert len(normalize.hash_value(form)) == 64


@given(st.from_regex(r"(11|84|55)9[0-9]{8}", fullmatch=True))
def test_a_mobile_number_is_the_same_however_it_is_typed(digits: str):
    area, first, last = digits[:2], digits[2:7], digits[7:]
    typed = [f"+55 {area} {first}-{last}", f"({area}) {first}-{last}", f"0{digits}", f"55{digits}", f"0055{digits}"]

    assert len({tuple(normalize.phone(text)) for text in typed}) == 1


@pytest.mark.parametrize(
    ("address", "clean"),
    [
        ("https://Loja.Exemplo.com.br/go/promo?fbclid=x&email=a@b.com#top", "https://loja.exemplo.com.br/go/promo"),
        ("https://user:secret@exemplo.com", "https://exemplo.com/"),
        ("http://127.0.0.1:8000/go/x?y", "http://127.0.0.1:8000/go/x"),
        ("https://[2001:db8::1]:8443/a", "https://[2001:db8::1]:8443/a"),
        ("javascript:alert(1)", None),
        ("https://", None),
        ("https://exemplo.com:99999/", None),
        ("https://[", None),
        ("", None),
        (None, None),
    ],
)
def test_page_address_tells_the_page_and_no_more(address: str | None, clean: str | None):
    assert normalize.page_url(address) == clean


@given(st.text(st.characters()) | st.text(st.characters()).map("https://a/".__add__))
def test_no_address_breaks_the_cleaner_or_keeps_a_query(text: str):
    clean = normalize.page_url(text)
    assert clean is None or not set("?#") & set(clean)
