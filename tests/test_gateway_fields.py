"""Amounts in reais, read and written."""

from __future__ import annotations

import pytest

from gateways import fields


@pytest.mark.parametrize(
    ("value", "cents"),
    [(49.9, 4990), (49, 4900), ("49.90", 4990), ("0.01", 1), (0.29, 29), (1.1, 110), ("12", 1200), ("49.9000", 4990)],
)
def test_an_amount_in_reais_is_read_to_the_cent(value: object, cents: int) -> None:
    assert fields.cents_of_reais(value) == cents


@pytest.mark.parametrize(
    "value",
    [None, True, "", "49,90", "1.234,56", "R$ 1", "-1.00", -1, 0.001, "1.005", 1e30, "1e3", "٤٩", "4_9", [], {}, "1."],
)
def test_what_is_no_amount_in_reais_is_not_guessed(value: object) -> None:
    assert fields.cents_of_reais(value) is None


@pytest.mark.parametrize(("cents", "written"), [(1, "0.01"), (4990, "49.90"), (100, "1.00")])
def test_an_amount_is_written_as_the_central_bank_does(cents: int, written: str) -> None:
    assert fields.reais(cents) == written
    assert fields.cents_of_reais(written) == cents


@pytest.mark.parametrize(
    ("phone", "digits"), [("+5511987654321", "11987654321"), ("+351912345678", "351912345678"), (None, "")]
)
def test_a_phone_is_written_without_its_country_where_that_is_brazil(phone, digits):
    assert fields.national_phone(phone) == digits
