"""The funnel engine: pure, and the default funnel's texts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot_manager.funnels import engine, texts
from bot_manager.funnels.default import FUNNEL

SHOP = engine.Shop("Loja", [engine.Offer("curso", "Curso", 4990)], "https://example.com/termos", None, "@suporte")

events = st.one_of(
    st.builds(engine.Started, st.text()),
    st.builds(engine.Said, st.text()),
    st.builds(engine.Tapped, st.text() | st.just("buy:curso") | st.just("paid:BOT1_x")),
    st.builds(engine.PixFailed, st.text()),
    st.builds(engine.Checked, st.text(), st.text()),
)


@given(events, st.dictionaries(st.text(), st.integers()))
def test_the_same_move_twice_is_the_same(event: engine.Event, state: dict) -> None:
    assert engine.step(FUNNEL, state, event, SHOP) == engine.step(FUNNEL, state, event, SHOP)


@given(st.text())
def test_a_name_never_becomes_markup(name: str) -> None:
    shop = engine.Shop(name, SHOP.offers)

    _, effects = engine.step(FUNNEL, {}, engine.Started(name), shop)

    assert effects[0].content.text.count("<") == 2


def test_only_the_bots_own_offers_can_be_bought() -> None:
    _, effects = engine.step(FUNNEL, {}, engine.Tapped("buy:another"), SHOP)

    assert not any(isinstance(effect, engine.Buy) for effect in effects)


def test_a_long_code_has_no_copy_button_and_is_never_cut() -> None:
    code = "0" * 300
    _, effects = engine.step(FUNNEL, {}, engine.PixReady("BOT1_x", "Curso", 4990, code, 30), SHOP)

    content = effects[0].content
    assert [button.label for button in content.buttons] == [texts.I_PAID]
    assert f"<code>{code}</code>" in content.text
    assert content.qr == code


def test_money_reads_as_brazilians_write_it() -> None:
    assert [texts.money(cents) for cents in (5, 4990, 184730, 123456789)] == [
        "R$\u00a00,05",
        "R$\u00a049,90",
        "R$\u00a01.847,30",
        "R$\u00a01.234.567,89",
    ]


def test_a_bot_without_offers_says_so() -> None:
    _, effects = engine.step(FUNNEL, {}, engine.Started(), engine.Shop("Loja", []))

    assert effects[0].content.text == texts.NOTHING_TO_SELL
