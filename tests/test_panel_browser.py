"""The panel in a real browser: the look can't be tested, but what must never happen to it can.

No error in the console, nothing stopped by the content policy, nothing wider than the screen, no accessibility
violation in either theme, no page heavier than agreed.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Response, Route, expect

from bot_manager.security import events
from models import Bot, Offer, db
from tests import panel_world
from tests.browser import chromium
from tests.panel_world import PASSWORD, PIX_CODE, Cast, World
from tests.serving import Serving

pytestmark = pytest.mark.browser

AXE = next((Path(__file__).parent / "vendor").glob("axe-*.js"))
SIZES = ((360, 740), (390, 844), (1280, 800))
THEMES = ("light", "dark")

MOST_FIRST_BYTES, MOST_FIRST_REQUESTS, MOST_NEXT_BYTES = 120_000, 12, 10_000


@pytest.fixture(scope="module", name="chromium")
def chromium_() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def served(panel: World) -> Iterator[str]:
    with Serving(panel.app) as serving:
        yield serving.url


@pytest.fixture(scope="module")
def full(panel: World) -> Cast:
    """Ana's shop has been selling for a month; caio's is as empty as new."""
    cast = panel.cast()
    with panel.acting(cast.shop):
        panel_world.fill(cast.shop, datetime.now(UTC))
        db.session.commit()
    return cast


@pytest.fixture(autouse=True)
def core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot_manager.conversations.hear", panel_world.hear)
    monkeypatch.setattr("bot_manager.sales.approve_test_sale", panel_world.approve)
    monkeypatch.setattr("bot_manager.sales.NotATestSale", panel_world.NotATestSale)


class Visit:
    """One person's browser, which remembers everything that went wrong in it."""

    def __init__(
        self, chromium: Browser, address: str, width: int = 1280, theme: str = "light", **options: Any
    ) -> None:
        self.address, self.wrong, self.expected = address, [], set[int]()
        size = {"width": width, "height": dict(SIZES)[width]}
        self.context: BrowserContext = chromium.new_context(
            base_url=address, viewport=size, color_scheme=theme, has_touch=width < 600, locale="pt-BR", **options
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning") and not any(
            f"status of {code}" in message.text for code in self.expected
        ):
            self.wrong.append(message.text)

    def _request(self, request: Request) -> None:
        if request.url.endswith("/csp"):
            self.wrong.append(f"stopped by the content policy: {request.post_data}")
        elif not request.url.startswith((self.address, "data:")):
            self.wrong.append(f"asked another host: {request.url}")

    def log_in(self, email: str) -> Page:
        self.page.goto("/login")
        self.page.fill("#email", email)
        self.page.fill("#password", PASSWORD)
        self.page.get_by_role("button", name="Entrar").click()
        self.page.wait_for_url("**/loja/**")
        return self.page

    def check(self, what: str) -> None:
        """On a small phone, a phone and a desk: nothing sticks out, and axe finds nothing."""
        before = self.page.viewport_size
        for width, height in SIZES:
            self.page.set_viewport_size({"width": width, "height": height})
            self._check_size(f"{what}, {width} pixels")
        assert before
        self.page.set_viewport_size(before)

    def _check_size(self, what: str) -> None:
        too_wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert too_wide <= 0, f"{what}: {too_wide} pixels too wide"
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        told = [(one["id"], [node["html"][:160] for node in one["nodes"]]) for one in found["violations"]]
        assert told == [], f"{what}: {json.dumps(told, indent=1, ensure_ascii=False)}"

    def end(self) -> None:
        self.context.close()
        assert self.wrong == []


@pytest.fixture
def visit(chromium: Browser, served: str) -> Iterator[Any]:
    visits: list[Visit] = []

    def begin(**options: Any) -> Visit:
        visits.append(Visit(chromium, served, **options))
        return visits[-1]

    yield begin
    for one in visits:
        one.end()


def _screens(full: Cast, panel: World) -> dict[str, str]:
    with panel.acting(full.shop):
        payments = db.session.query(panel_world.Payment).filter_by(status="paid", test=False)
        paid = payments.order_by(panel_world.Payment.id.desc()).first()
        assert paid is not None
        sale = paid.payment_id
    shop = f"/loja/{full.shop.id}"
    return {
        "início": f"{shop}/",
        "vendas": f"{shop}/vendas",
        "uma venda": f"{shop}/vendas/{sale}",
        "bots": f"{shop}/bots",
        "recebimento": f"{shop}/recebimento",
        "financeiro": f"{shop}/financeiro",
        "conversa": f"{shop}/bots/{full.shop.bot_id}/conversa",
        "conta": "/conta",
    }


@pytest.mark.parametrize("theme", THEMES)
def test_a_busy_shop_reads_well(visit: Any, panel: World, full: Cast, theme: str) -> None:
    ana = visit(theme=theme)
    page = ana.log_in(full.ana)
    for name, path in _screens(full, panel).items():
        page.goto(path)
        for details in page.locator("details").all():
            details.locator("summary").click()
        ana.check(f"{name}, {theme}")


@pytest.mark.parametrize("theme", THEMES)
def test_an_empty_shop_reads_well(visit: Any, full: Cast, theme: str) -> None:
    caio = visit(theme=theme)
    page = caio.log_in(full.caio)
    shop = f"/loja/{full.other.id}"
    for path in (
        f"{shop}/",
        f"{shop}/vendas",
        f"{shop}/bots",
        f"{shop}/recebimento",
        f"{shop}/financeiro",
        f"{shop}/conversa",
    ):
        page.goto(path)
        caio.check(f"{path}, empty, {theme}")


@pytest.mark.parametrize("theme", THEMES)
def test_the_doors_and_the_errors_read_well(visit: Any, full: Cast, theme: str) -> None:
    somebody = visit(theme=theme)
    somebody.expected = {404, 410}
    page = somebody.page
    for path in ("/login", "/no-such-page", "/convite/over"):
        page.goto(path)
        somebody.check(f"{path}, {theme}")
    page.goto("/login")
    page.fill("#email", full.ana)
    page.fill("#password", "not this one")
    page.get_by_role("button", name="Entrar").click()
    expect(page.get_by_role("alert")).to_contain_text("não conferem")
    somebody.check(f"wrong login, {theme}")


@pytest.mark.parametrize("width", [390, 1280])
def test_a_newcomer_makes_a_sale(visit: Any, panel: World, width: int) -> None:
    """From the first login to the sale's story, with nothing but this browser."""
    cast = panel.cast()
    olga = visit(width=width)
    page = olga.page
    page.goto("/")
    page.fill("#email", cast.olga)
    page.fill("#password", PASSWORD)
    page.get_by_role("button", name="Entrar").click()
    page.get_by_label("Nome da loja").fill("Padaria da Olga")
    page.get_by_role("button", name="Criar loja").click()
    page.get_by_role("button", name="Começar").click()
    page.get_by_role("button", name="Curso de exemplo").click()
    page.get_by_role("button", name="Aprovar pagamento").click()
    expect(page.get_by_text("Pago e entregue")).to_be_visible()
    page.get_by_role("link", name="Ver a linha do tempo").click()
    expect(page.get_by_role("heading", name="Linha do tempo")).to_be_visible()
    expect(page.locator(".p-story")).to_contain_text("Entregue")


def test_a_forgotten_login_is_ended_from_the_phone_and_the_password_changed(visit: Any, panel: World) -> None:
    cast = panel.cast()
    desk, phone = visit(), visit(width=390)
    there, here = desk.log_in(cast.ana), phone.log_in(cast.ana)
    here.get_by_role("button", name="Mais").click()
    here.get_by_role("link", name="Sua conta").click()
    expect(here.locator(".p-logins li")).to_have_count(2)

    here.locator(".p-logins li").filter(has_not_text="este aparelho").get_by_role("button", name="Sair").click()
    expect(here.locator(".p-logins li")).to_have_count(1)
    there.goto(f"/loja/{cast.shop.id}/")
    expect(there).to_have_url(re.compile("/login"))

    phone.expected = {422}
    here.get_by_label("Senha de hoje", exact=True).fill("not this one")
    here.get_by_label("Senha nova", exact=True).fill("outra frase bem boa")
    here.get_by_role("button", name="Trocar a senha").click()
    expect(here.get_by_text("Esta não é a senha de hoje.")).to_be_visible()
    phone.check("conta, wrong password")
    here.get_by_label("Senha de hoje", exact=True).fill(PASSWORD)
    here.get_by_label("Senha nova", exact=True).fill("outra frase bem boa")
    here.get_by_role("button", name="Trocar a senha").click()
    expect(here.get_by_text("Senha trocada.")).to_be_visible()
    phone.check("conta, changed")
    here.get_by_role("button", name="Sair de todos os aparelhos").click()
    expect(here).to_have_url(re.compile("/login"))


def _chat(full: Cast) -> str:
    return f"/loja/{full.other.id}/bots/{full.other.bot_id}/conversa"


@pytest.mark.parametrize("theme", THEMES)
def test_a_conversation_with_a_code_reads_well(visit: Any, full: Cast, theme: str) -> None:
    caio = visit(theme=theme)
    page = caio.log_in(full.caio)
    page.goto(_chat(full))
    page.locator("#begin, #again").click()
    page.get_by_role("button", name="Curso de exemplo").last.click()
    expect(page.get_by_alt_text("QR code do PIX").last).to_be_visible()
    caio.check(f"conversa with a code, {theme}")
    page.get_by_role("button", name="Aprovar pagamento").click()
    expect(page.get_by_text("Pago e entregue")).to_be_visible()
    caio.check(f"conversa, paid, {theme}")


def test_typing_goes_on_while_the_conversation_grows(visit: Any, panel: World, full: Cast) -> None:
    """The field keeps its words and its focus through the polls, and is empty after sending."""
    caio = visit()
    page = caio.log_in(full.caio)
    page.goto(_chat(full))
    field = page.get_by_label("Mensagem", exact=True)
    field.fill("meia pal")
    with page.expect_response(lambda answer: "?v=" in answer.url):
        _bot_says(panel, full, "algo de repente")
        expect(page.get_by_text("algo de repente")).to_be_visible()
    expect(field).to_have_value("meia pal")
    expect(field).to_be_focused()

    field.press_sequentially("avra")
    field.press("Enter")

    expect(page.locator(".p-mine").last).to_contain_text("meia palavra")
    expect(field).to_have_value("")
    expect(field).to_be_focused()
    field.fill("outra")
    field.press("Enter")
    expect(page.locator(".p-mine").last).to_contain_text("outra")


def _bot_says(panel: World, full: Cast, text: str) -> None:
    with panel.acting(full.other):
        bot = db.session.get_one(Bot, full.other.bot_id)
        user = db.session.query(panel_world.User).filter_by(email=full.caio).one()
        panel_world._tell(panel_world._customer(bot, "panel", f"user-{user.id}"), text)
        db.session.commit()


def test_the_newest_message_is_in_sight(visit: Any, panel: World, full: Cast) -> None:
    caio = visit(width=390)
    page = caio.log_in(full.caio)
    page.goto(_chat(full))
    for number in range(30):
        _bot_says(panel, full, f"mensagem {number} do bot")

    expect(page.get_by_text("mensagem 29 do bot")).to_be_in_viewport(timeout=10_000)
    expect(page.get_by_label("Mensagem", exact=True)).to_be_in_viewport()


def test_the_code_is_copied_and_the_button_says_so(visit: Any, full: Cast) -> None:
    caio = visit(permissions=["clipboard-read", "clipboard-write"])
    page = caio.log_in(full.caio)
    page.clock.install()
    page.goto(_chat(full))
    page.locator("#begin, #again").click()
    page.get_by_role("button", name="Curso de exemplo").last.click()
    copy, copied = (page.get_by_role("button", name=name) for name in ("Copiar código PIX", "Copiado"))
    copy.last.wait_for()
    _still(page)

    copy.last.click()

    expect(copied).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == PIX_CODE
    page.clock.run_for(2000)
    expect(copied).to_have_count(0)
    expect(copy.last).to_be_visible()


def _still(page: Page) -> None:
    """What is shown for two seconds stays until the clock is told to go on, and the conversation is not drawn again."""
    page.route(lambda url: "v=" in url, lambda route: route.fulfill(status=204))
    with page.expect_response(lambda answer: answer.status == 204):
        pass
    page.clock.pause_at(datetime.fromtimestamp(page.evaluate("Date.now()") / 1000 + 1, UTC))


def test_a_button_that_is_drawn_again_while_it_says_so_keeps_its_name(visit: Any, full: Cast) -> None:
    caio = visit(permissions=["clipboard-read", "clipboard-write"])
    page = caio.log_in(full.caio)
    page.clock.install()
    page.goto(_chat(full))
    page.locator("#begin, #again").click()
    page.get_by_role("button", name="Curso de exemplo").last.click()
    copy = page.get_by_role("button", name="Copiar código PIX").last
    copy.wait_for()
    _still(page)
    copy.click()
    expect(page.get_by_role("button", name="Copiado")).to_be_visible()

    page.unroute_all()
    page.locator("#begin, #again").click()
    expect(copy).to_be_visible()
    page.clock.run_for(2000)

    expect(copy).to_be_visible()


def test_a_sale_appears_by_itself(visit: Any, panel: World, full: Cast) -> None:
    """And an open table stays open when it does."""
    ana = visit()
    page = ana.log_in(full.ana)
    page.clock.install()
    page.goto(f"/loja/{full.shop.id}/")
    page.get_by_text("Ver em tabela").click()
    with panel.acting(full.shop):
        bot, offer = db.session.get_one(Bot, full.shop.bot_id), db.session.get_one(Offer, full.shop.offer_id)
        panel_world.sale(panel_world.customer(bot, "Recém", "Chegada"), offer, None, "new")
        db.session.commit()

    page.clock.fast_forward(10_000)

    expect(page.get_by_text("Recém Chegada")).to_be_visible()
    expect(page.get_by_role("columnheader", name="Dia")).to_be_visible()


def test_more_sales_are_shown_below_and_the_focus_goes_on(visit: Any, full: Cast) -> None:
    ana = visit()
    page = ana.log_in(full.ana)
    page.goto(f"/loja/{full.shop.id}/vendas")
    rows = page.locator(".p-row")
    expect(rows).to_have_count(30)

    page.get_by_role("link", name="Mostrar mais").focus()
    page.keyboard.press("Enter")

    expect(rows).to_have_count(60)
    expect(page.get_by_role("link", name="Mostrar mais")).to_be_focused()


def test_a_server_that_is_away_leaves_the_page_as_it_is(visit: Any, full: Cast) -> None:
    ana = visit()
    ana.expected = {503}
    page = ana.log_in(full.ana)
    page.clock.install()
    page.goto(f"/loja/{full.shop.id}/")

    def away(route: Route) -> None:
        route.fulfill(status=503, body="<h1>gone</h1>", content_type="text/html")

    page.route("**/ao-vivo*", away)
    with page.expect_response("**/ao-vivo*"):
        page.clock.fast_forward(10_000)

    expect(page.get_by_text("Recebido hoje")).to_be_visible()
    expect(page.get_by_text("gone")).to_have_count(0)


def test_the_theme_is_chosen_and_stays(visit: Any, full: Cast) -> None:
    ana = visit()
    page = ana.log_in(full.ana)
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)

    page.get_by_role("button", name="Tema escuro").first.click()
    page.wait_for_function(f"{background} !== '{light}'")
    page.goto(f"/loja/{full.shop.id}/vendas")

    assert page.evaluate(background) != light
    expect(page.get_by_role("button", name="Tema claro").first).to_be_visible()


def test_the_phones_menu_opens_and_closes_without_a_script(visit: Any, full: Cast) -> None:
    ana = visit(width=390)
    page = ana.log_in(full.ana)
    page.get_by_role("button", name="Mais").click()
    expect(page.get_by_role("button", name="Sair")).to_be_visible()
    ana.check("mais")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Sair")).to_be_hidden()


def test_everything_needed_works_without_scripts(visit: Any, full: Cast) -> None:
    caio = visit(java_script_enabled=False)
    page = caio.log_in(full.caio)
    page.goto(_chat(full))
    page.get_by_label("Mensagem", exact=True).fill("/start")
    page.get_by_role("button", name="Enviar").click()
    page.get_by_role("button", name="Curso de exemplo").last.click()
    page.get_by_role("button", name="Aprovar pagamento").click()
    expect(page.locator(".p-theirs").last).to_contain_text("Pagamento confirmado!")


def test_pages_are_light(visit: Any, full: Cast) -> None:
    """All that a first visit takes, from the login to the shop, and then another page."""
    ana = visit()
    files: dict[str, int] = {}
    ana.page.on("response", lambda answer: files.update(_file(answer)))
    page = ana.log_in(full.ana)
    page.wait_for_load_state("networkidle")
    home, sales = (_page(ana, f"/loja/{full.shop.id}/{room}") for room in ("", "vendas"))

    assert len(files) + 1 <= MOST_FIRST_REQUESTS
    assert sum(files.values()) + home < MOST_FIRST_BYTES
    assert max(home, sales) < MOST_NEXT_BYTES


def _file(answer: Response) -> dict[str, int]:
    return {answer.url: int(answer.headers["content-length"])} if "/static/" in answer.url else {}


def _page(visit: Visit, path: str) -> int:
    """As it travels when a proxy packs it."""
    return len(gzip.compress(visit.context.request.get(path).body(), 6))


# The operator's room ------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(full: Cast, panel: World) -> None:
    """Something of each kind that an operator looks at."""
    with panel.acting(full.shop):
        payment = db.session.query(panel_world.Payment).filter(panel_world.Payment.gateway_id.is_not(None)).first()
        assert payment is not None
        gateway = db.session.get_one(panel_world.Gateway, payment.gateway_id)
        for state in ("mismatch", "forged", "parked", "unreadable"):
            panel_world.notice(payment, gateway, datetime.now(UTC), state)
        events.report(events.Kind.FORGED_NOTICE, full.shop.id, "receipt 1", gateway=gateway.id, receipt=1)
        events.report(events.Kind.WRONG_WEBHOOK_SECRET, gateway_kind="pushinpay" * 20)
        db.session.commit()


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("theme", THEMES)
def test_the_operators_room_is_clean_in_both_themes(visit: Any, full: Cast, theme: str) -> None:
    one = visit(theme=theme)
    page = _as_operator(one, full)
    for what, path in {"fila": "fila", "lote": "fila/lote", "segurança": "seguranca"}.items():
        page.goto(f"/operacao/{path}")
        one.check(f"{what}, {theme}")


@pytest.mark.usefixtures("stopped")
def test_an_operator_tries_a_set_again_on_the_phone_and_stops_it(visit: Any, full: Cast) -> None:
    one = visit(width=390)
    page = _as_operator(one, full)
    page.goto(f"/operacao/fila?loja={full.shop.id}")
    page.get_by_role("link", name="Tentar de novo estas").click()
    size = page.get_by_label("Para confirmar, escreva").get_attribute("id")
    number = page.locator(f"label[for={size}]").inner_text().rpartition(" ")[2]

    page.get_by_label("Para confirmar, escreva").fill(number)
    page.get_by_role("main").get_by_role("button", name="Tentar de novo").click()
    expect(page.get_by_text("Em andamento.")).to_be_visible()
    one.check("lote")
    page.get_by_role("button", name="Parar").click()

    expect(page.get_by_text("Parado. O resto ficou na fila.")).to_be_visible()
    one.check("lote parado")


def _as_operator(one: Visit, full: Cast) -> Page:
    one.page.goto("/login")
    one.page.fill("#email", full.olga)
    one.page.fill("#password", PASSWORD)
    one.page.get_by_role("button", name="Entrar").click()
    one.page.wait_for_url("**/comece")
    one.page.get_by_role("link", name="Operação").click()
    one.page.wait_for_url("**/operacao/fila")
    return one.page
