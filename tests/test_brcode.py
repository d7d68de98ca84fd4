"""The text behind a PIX QR code."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateways.brcode import MAX_LENGTH, BRCode, NotABRCode, build, checksum, parse

# The Central Bank's own examples: a dynamic code, one with a PIX Automático beside it, one with only that.
DYNAMIC = (
    "00020101021226770014BR.GOV.BCB.PIX2555pix.example.com/qr/93598be0-1bd0-4997-8318-81776a1d8a99"
    "5204000053039865802BR5907EMPRESA6009SAO PAULO62070503***6304EEAB"
)
COMPOSITE = (
    "00020101021226760014br.gov.bcb.pix2554pix.example.com/qr/v2/8b3da2f39a4140d1a91abd93113bd441"
    "5204000053039865802BR5913Fulano de Tal6008BRASILIA62070503***"
    "80800014br.gov.bcb.pix2558pix.example.com/qr/v2/rec/94ed2badcbc04c15b0bb7fa35319489063047741"
)
RECURRENCE = (
    "00020126180014br.gov.bcb.pix5204000053039865802BR5913Fulano de Tal6008BRASILIA62070503***"
    "80800014br.gov.bcb.pix2558pix.example.com/qr/v2/rec/2353c790eefb11eaadc10242ac120002630462C9"
)
STATIC = build(key="+5511999990000", amount_cents=6666, merchant_name="EMPRESA", merchant_city="BRASILIA", txid="abc1")


def closed(body):
    """A code with any content and the right checksum."""
    return f"{body}6304{checksum(body + '6304')}"


def test_the_checksum_is_the_published_one():
    assert checksum("123456789") == "29B1"
    assert DYNAMIC.endswith(checksum(DYNAMIC[:-4]))


def test_a_dynamic_code_points_at_its_charge():
    code = parse(DYNAMIC)
    assert code.dynamic
    assert code == BRCode(
        amount_cents=None,
        txid=None,
        key=None,
        url="pix.example.com/qr/93598be0-1bd0-4997-8318-81776a1d8a99",
        recurrence_url=None,
        merchant_name="EMPRESA",
        merchant_city="SAO PAULO",
    )


def test_a_static_code_names_its_key():
    code = parse(STATIC)
    assert (code.key, code.amount_cents, code.txid, code.dynamic) == ("+5511999990000", 6666, "abc1", False)


@pytest.mark.parametrize("text", [COMPOSITE, RECURRENCE])
def test_an_automatic_pix_is_read_beside_or_alone(text):
    assert parse(text).recurrence_url.startswith("pix.example.com/qr/v2/rec/")


@pytest.mark.parametrize(
    ("written", "cents"),
    [("1", 100), ("0.01", 1), ("10.5", 1050), ("49.90", 4990), ("9999999999.99", 999999999999), ("0.00", None)],
)
def test_an_amount_is_read_as_integer_cents(written, cents):
    fields = f"54{len(written):02}{written}5802BR5904LOJA"
    assert (
        parse(closed(f"00020126330014br.gov.bcb.pix0111a@exemplo.c52040000530398{'6'}{fields}")).amount_cents == cents
    )


HEAD = "00020126330014br.gov.bcb.pix0111a@exemplo.c"
REFUSED = {
    "empty": ("", "000201"),
    "address": ("https://pix.example.com/qr", "000201"),
    "image": ("data:image/png;base64,iVBORw0KGgo=", "000201"),
    "only a beginning": ("000201", "checksum"),
    "space before": (" " + DYNAMIC, "000201"),
    "line end": (DYNAMIC + "\n", "printed"),
    "half a character": (DYNAMIC[:-10] + "\ud800" + DYNAMIC[-10:], "printed"),
    "changed amount": (STATIC.replace("66.66", "06.66"), "checksum"),
    "cut": (DYNAMIC[:-9], "checksum"),
    "checksum not last": (DYNAMIC + "5901A", "checksum"),
    "other currency": (closed(f"{HEAD}5204000053038405802US5904LOJA"), "reais"),
    "other country": (closed(f"{HEAD}5204000053039865802US5904LOJA"), "reais"),
    "no currency": (closed(f"{HEAD}520400005802BR5904LOJA"), "currency"),
    "no merchant": (closed(f"{HEAD}5204000053039865802BR"), "merchant"),
    "not pix": (closed("00020126180014br.com.outro.q5204000053039865802BR5904LOJA"), "not for PIX"),
    "no account": (closed("0002015204000053039865802BR5904LOJA"), "not for PIX"),
    "field twice": (closed(f"{HEAD}5204000053039865802BR5904LOJA5904LOJA"), "twice"),
    "inner field twice": (closed(f"{HEAD}5204000053039865802BR5904LOJA62100501a0501b"), "twice"),
    "longer than it is": (closed(f"{HEAD}5204000053039865802BR5999LOJA"), "shorter"),
    "no length": (closed(f"{HEAD}5204000053039865802BR5904LOJA620205"), "length"),
    "letters for a length": (closed(f"{HEAD}5204000053039865802BR59x4LOJA"), "length"),
    "other digits": (closed(f"{HEAD}5204000053039865802BR59٠٤LOJA"), "length"),
    "amount with a comma": (closed(f"{HEAD}520400005303986540549,905802BR5904LOJA"), "amount"),
    "amount below zero": (closed(f"{HEAD}5204000053039865405-1.005802BR5904LOJA"), "amount"),
    "amount in words": (closed(f"{HEAD}5204000053039865403NaN5802BR5904LOJA"), "amount"),
    "checksum inside a field": (closed(f"{HEAD}5204000053039865802BR5912LOJA"), "checksum"),
    "very long": (closed("000201" + "9" * MAX_LENGTH), "long"),
}


@pytest.mark.parametrize(("text", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_a_text_that_no_bank_would_take_is_refused_with_the_reason(text, why):
    with pytest.raises(NotABRCode, match=why):
        parse(text)


def test_small_letters_in_the_checksum_are_taken():
    assert parse(DYNAMIC[:-4] + "eeab") == parse(DYNAMIC)


words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=15)


@settings(max_examples=200, deadline=None, database=None)
@given(key=words, name=words, city=words, cents=st.none() | st.integers(1, 10**12 - 1), txid=words)
def test_what_is_built_is_read_back(key, name, city, cents, txid):
    static = parse(build(key=key, merchant_name=name, merchant_city=city, amount_cents=cents, txid=txid))
    assert static == BRCode(cents, txid, key, None, None, name, city)
    dynamic = parse(build(url=key, merchant_name=name, merchant_city=city, amount_cents=cents, txid=txid))
    assert dynamic == BRCode(cents, txid, None, key, None, name, city)


@settings(max_examples=200, deadline=None, database=None)
@given(at=st.integers(0, len(STATIC) - 1), other=st.characters(codec="ascii", categories=["L", "N"]))
def test_one_changed_character_is_noticed(at, other):
    changed = STATIC[:at] + other + STATIC[at + 1 :]
    if changed.upper() != STATIC.upper() or at < len(STATIC) - 4:
        try:
            assert parse(changed) == parse(STATIC)
            assert changed == STATIC
        except NotABRCode:
            pass


@settings(max_examples=300, deadline=None, database=None)
@given(
    st.text(max_size=100) | st.text(alphabet="0123456789BR.", max_size=100).map(lambda text: closed("000201" + text))
)
def test_no_text_raises_anything_else(text):
    try:
        parse(text)
    except NotABRCode:
        pass


def test_a_field_that_is_too_long_can_not_be_built():
    with pytest.raises(ValueError, match="99"):
        build(key="k" * 99, merchant_name="LOJA", merchant_city="RECIFE")
