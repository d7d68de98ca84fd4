"""Texts that strangers and sellers choose, on every page, in a real browser: shown as they are, never done."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Page
from sqlalchemy import text

from bot_manager.funnels import engine
from bot_manager.funnels.default import FUNNEL
from bot_manager.security import doors
from models import Bot, DoorKind, Gateway, Link, Offer, Payment, Seller, db
from tests import panel_world
from tests.browser import chromium, phone
from tests.panel_world import PASSWORD, World
from tests.serving import Serving

TEXTS = (
    "<svg onload=alert(1)>",
    "<img src=x onerror=alert(1)>",
    "'-alert(1)-'",
    '"><script>alert(1)</script>',
    "</script><script>alert(1)</script>",
    "javascript:alert(1)//https://x",
    "{{7*7}} ${7*7} <%= 7*7 %>",
    "{0.__class__} {config} %s %(a)s {name}",
    "\u202egnp.exe\u202c \u0000".replace("\u0000", ""),
)
WHAT_IS_WRONG = """() => [...document.querySelectorAll('*')].flatMap(one => [
    ...[...one.attributes].filter(a => a.name.startsWith('on') || a.name === 'srcdoc').map(a => one.outerHTML),
    ...(one.tagName === 'SCRIPT' && !one.src && one.type !== 'application/json' ? [one.outerHTML] : []),
    ...(/^\\s*(javascript|data|vbscript):/i.test(one.getAttribute('href') || '') ? [one.outerHTML] : []),
    ...(one.tagName === 'IMG' && one.getAttribute('src') === 'x' ? [one.outerHTML] : []),
])"""


@pytest.mark.browser
def test_no_text_becomes_more_than_text(panel: World, served: str) -> None:
    cast = panel.cast()
    public_id, slug, paths = _fill_with_naughty_texts(panel, cast.shop)
    dialogs: list[str] = []
    with chromium() as browser, phone(browser) as page:
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        _log_in(page, served, cast.ana)
        for path in [*paths, f"/privacidade/{public_id}", f"/go/{slug}", "/conta", "/lojas"]:
            page.goto(f"{served}{path}")
            assert page.evaluate(WHAT_IS_WRONG) == [], path
            assert "49 49 49" not in page.inner_text("body"), path
        page.goto(f"{served}{paths[0]}")
        assert TEXTS[0] in page.inner_text("body")
    assert dialogs == []


def _log_in(page: Page, address: str, email: str) -> None:
    page.goto(f"{address}/login")
    page.fill("#email", email)
    page.fill("#password", PASSWORD)
    page.get_by_role("button", name="Entrar").click()
    page.wait_for_url("**/loja/**")


def _fill_with_naughty_texts(panel: World, shop: panel_world.Shop) -> tuple[str, str, list[str]]:
    all_of_them = " ".join(TEXTS)
    with panel.acting(shop):
        panel_world.fill(shop, datetime.now(UTC), a_day=1)
        seller = db.session.get_one(Seller, shop.id)
        seller.name, seller.document, seller.address, seller.support = TEXTS[0], TEXTS[1], TEXTS[3], TEXTS[4]
        seller.terms_url = "javascript:alert(1)"
        for bot in db.session.query(Bot):
            bot.name, bot.username, bot.state_note = all_of_them, all_of_them, all_of_them
        for offer in db.session.query(Offer):
            offer.name = all_of_them
        for gateway in db.session.query(Gateway):
            gateway.name, gateway.last_error = f"{all_of_them} {gateway.id}", all_of_them
        bot, offer = db.session.get_one(Bot, shop.bot_id), db.session.get_one(Offer, shop.offer_id)
        for naughty in TEXTS:
            person = panel_world.customer(bot, naughty, naughty)
            payment = panel_world.sale(person, offer, None, "failed")
            payment.offer_name = naughty
            panel_world.event(payment, "gateway_failed", datetime.now(UTC), error=naughty, why=naughty, gateway=None)
        user = db.session.query(panel_world.User).filter_by(email=seller_email(panel, shop)).one()
        for naughty in TEXTS:
            body = {"kind": "text", "text": naughty}
            panel_world.hear(bot, "panel", f"user-{user.id}", f"panel:{uuid.uuid4()}", body)
            customer = panel_world._customer(bot, "panel", f"user-{user.id}")
            panel_world._tell(
                customer, naughty, [{"label": naughty, "data": naughty}, {"label": naughty, "url": naughty}]
            )
        link = Link(seller_id=shop.id, slug=f"naughty-{uuid.uuid4().hex[:6]}", bot_id=bot.id, mode="page")
        panel_world.add(link)
        doors.put(DoorKind.LINK, link.slug, shop.id, link.id)
        bots, payments = db.session.query(Bot).all(), db.session.query(Payment).order_by(Payment.id.desc()).limit(9)
        at = f"/loja/{shop.id}"
        rooms = [
            f"{at}/",
            f"{at}/vendas",
            f"{at}/vendas?situacao=nao-pagas",
            f"{at}/bots",
            f"{at}/recebimento",
            f"{at}/financeiro",
        ]
        paths = [*rooms, *(f"{at}/bots/{one.id}/conversa" for one in bots[:1])]
        paths += [f"{at}/vendas/{payment.payment_id}" for payment in payments]
        answer = bot.public_id, link.slug, paths
        db.session.commit()
    return answer


def seller_email(panel: World, shop: panel_world.Shop) -> str:
    owner = text(
        "select u.email from \"user\" u join membership m on m.user_id = u.id where m.seller_id = :it and role = 'owner'"
    )
    return str(db.session.execute(owner, {"it": shop.id}).scalar_one())


@pytest.fixture
def served(panel: World) -> Iterator[str]:
    with Serving(panel.app) as serving:
        yield serving.url


@pytest.mark.parametrize("naughty", TEXTS)
def test_only_our_own_placeholders_are_filled_in(naughty: str) -> None:
    """Names of shops, offers and people, in what customers read: escaped, and otherwise as they were written."""
    shop = engine.Shop(naughty, [engine.Offer("k", naughty, 4990)], None, None, naughty)
    said: list[Any] = []
    for happened in (engine.Started(naughty), engine.Said("/paysupport"), engine.Tapped("buy:k")):
        _, effects = engine.step(FUNNEL, {}, happened, shop)
        said += [effect.content for effect in effects if isinstance(effect, engine.Say)]
    whole = " ".join(content.text for content in said)

    assert "<script" not in whole.replace("&lt;", "")
    assert "<svg" not in whole and "<img" not in whole  # noqa: PT018
    assert "49 " not in whole.replace("R$\u00a049,90", "")
    assert any(
        naughty.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")[:8] in content.text
        or naughty[:8] in str(content.buttons)
        for content in said
    )
