"""A newcomer's first sale, in a real browser, through the real core and a real worker."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from bot_manager import sellers
from models import db
from tests.browser import chromium, phone
from tests.line import Line

pytestmark = pytest.mark.browser


def test_a_newcomer_makes_a_sandbox_sale_in_the_test_chat(line: Line) -> None:
    with line.app.app_context():
        password = sellers.first_operator("olga@example.com")
        db.session.commit()

    with chromium() as browser, phone(browser) as page, line.working():
        page.goto(line.url)
        page.get_by_label("E-mail").fill("olga@example.com")
        page.get_by_label("Senha", exact=True).fill(password)
        page.get_by_role("button", name="Entrar").click()
        page.get_by_label("Nome da loja").fill("Loja da Olga")
        page.get_by_role("button", name="Criar loja").click()
        page.get_by_role("button", name="Começar").click()
        page.get_by_role("button", name=re.compile("Curso de exemplo")).click(timeout=15_000)
        page.get_by_role("button", name="Aprovar pagamento").click(timeout=15_000)
        expect(page.get_by_text("Pagamento confirmado")).to_be_visible(timeout=15_000)
        page.get_by_role("link", name=re.compile("linha do tempo")).click(timeout=15_000)
        expect(page.get_by_text("Pedido feito")).to_be_visible()
        expect(page.get_by_text("Código enviado na conversa")).to_be_visible()

    assert [row["status"] for row in line.rows("select status from payment")] == ["paid"]
    assert [row["state"] for row in line.rows("select state from delivery")] == ["delivered"]


@pytest.mark.parametrize(("path", "words"), [("/go/nada", "Este link não existe mais"), ("/nada", "Não encontramos")])
def test_a_page_that_is_not_there_is_a_calm_page(line: Line, path: str, words: str) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.goto(line.url + path)

        expect(page.get_by_role("heading", level=1)).to_contain_text(words)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
