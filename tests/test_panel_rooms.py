"""What each room shows: the right numbers, of the right shop, in words that say who acts next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, text

import gateways
from bot_manager import sellers
from bot_manager.security import doors
from gateways.base import PayerField
from models import (
    Bot,
    BotState,
    ChargeAttempt,
    Click,
    Decision,
    Delivery,
    Destination,
    DoorKind,
    Gateway,
    Link,
    Membership,
    Offer,
    Payment,
    Seller,
    db,
)
from tests import panel_world
from tests.panel_world import Cast, World, add, customer, event, notice, sale, words

SAO_PAULO = ZoneInfo("America/Sao_Paulo")


class Ours:
    """Ana's shop, to put sales into."""

    def __init__(self, panel: World, cast: Cast) -> None:
        self.panel, self.cast = panel, cast
        self.seller_id = cast.shop.id
        self.now = datetime.now(UTC)
        self.noon = datetime.now(SAO_PAULO).replace(hour=0, minute=0, second=1).astimezone(UTC)
        self.bot = db.session.get_one(Bot, cast.shop.bot_id)
        self.offer = db.session.get_one(Offer, cast.shop.offer_id)
        self.gateway = Gateway(seller_id=self.seller_id, name="principal", kind="pushinpay")
        sellers.add_gateway(self.gateway, {})
        self.person = customer(self.bot, "João Vítor", "Souza", self.now - timedelta(minutes=10))

    def sale(self, status: str = "paid", at: datetime | None = None, **more: object) -> Payment:
        """Each to a customer of its own, since one may have a single live PIX."""
        person = customer(self.bot, "Lívia", "Nunes", self.now - timedelta(minutes=10))
        return sale(person, self.offer, self.gateway, status, at or self.now, **more)  # type: ignore[arg-type]

    def page(self, path: str = "/", htmx: bool = False) -> str:
        db.session.commit()
        answer = self.panel.client(self.cast.ana).get(f"/loja/{self.seller_id}{path}", htmx=htmx)
        assert answer.status_code == 200
        return words(answer)


@pytest.fixture
def ours(panel: World, cast: Cast) -> Iterator[Ours]:
    with panel.acting(cast.shop):
        yield Ours(panel, cast)


def _card(page: str, name: str) -> str:
    return page.partition(name)[2][:40]


# Início -------------------------------------------------------------------------------------------------------------


def test_todays_money_is_that_of_the_sellers_day(ours: Ours) -> None:
    """One second into the day there counts, one second before is yesterday's."""
    for seconds in (0, -2):
        payment = ours.sale("pending", ours.noon - timedelta(hours=1))
        panel_world.settle(payment, ours.noon + timedelta(seconds=seconds))

    page = ours.page()

    assert "Recebido hoje R$ 49,90 R$ 49,90 ontem" in page
    assert "Vendas pagas 1 1 ontem" in page


def test_a_new_york_sellers_day_is_another(ours: Ours) -> None:
    db.session.get_one(Seller, ours.seller_id).timezone = "Pacific/Kiritimati"
    payment = ours.sale("pending", ours.now - timedelta(hours=30))
    start = datetime.now(ZoneInfo("Pacific/Kiritimati")).replace(hour=0, minute=0, second=0, microsecond=0)
    panel_world.settle(payment, start.astimezone(UTC) + timedelta(seconds=1))

    assert "Vendas pagas 1 0 ontem" in ours.page()


def test_test_sales_are_shown_and_not_counted(ours: Ours) -> None:
    ours.sale(test=True)

    page = ours.page()

    assert "Vendas pagas 0" in page
    assert "Lívia Nunes TESTE Curso de exemplo R$ 49,90 Pago" in page


def test_refunded_money_is_not_counted(ours: Ours) -> None:
    ours.sale("refunded")

    assert "Recebido hoje R$ 0,00" in ours.page()


def test_the_share_of_paid_pix_leaves_out_what_never_had_a_code(ours: Ours) -> None:
    ours.sale("paid", ours.now - timedelta(seconds=1))
    ours.sale("pending", ours.now)
    sale(ours.person, ours.offer, None, "failed", ours.now)

    assert _card(ours.page(), "PIX pagos").startswith(" 50% de 2 gerados")


def test_the_chart_has_a_table_and_a_sentence_for_who_cannot_see_it(ours: Ours) -> None:
    ours.sale("paid", ours.now - timedelta(minutes=3))
    db.session.commit()

    html = ours.panel.client(ours.cast.ana).get(f"/loja/{ours.seller_id}/").text

    assert html.count('class="p-bar ') + html.count('class="p-bar"') == 30
    assert 'role="img" aria-label="Recebido por dia nos últimos 30 dias: R$\u00a049,90 no total' in html
    assert html.partition("chart-table")[2].partition("</table>")[0].count("<tr>") == 31


def test_the_live_part_answers_nothing_while_it_would_be_the_same(ours: Ours) -> None:
    ours.sale("pending", ours.now - timedelta(hours=1, minutes=30))
    db.session.commit()
    ana = ours.panel.client(ours.cast.ana)
    url = _live_url(ana.get(f"/loja/{ours.seller_id}/").text)

    assert ana.get(url, htmx=True).status_code == 204
    ours.sale()
    db.session.commit()
    changed = ana.get(url, htmx=True)
    assert changed.status_code == 200
    assert url != _live_url(changed.text)
    assert "Vendas pagas 1" in words(changed)


def _live_url(html: str) -> str:
    return re.findall(r'id="live"[^>]*hx-get="([^"]+)"', html)[0]


def test_what_is_wrong_says_who_acts_next(ours: Ours) -> None:
    ours.bot.state = BotState.REFUSED
    ours.gateway.last_error, ours.gateway.last_error_at = "401: token inválido", ours.now
    pixel = Destination(seller_id=ours.seller_id, name="pixel", kind="meta", pixel_id="1", access_token_sealed=b"x")
    pixel.paused_note = "A Meta recusou a chave"
    add(pixel)

    page = ours.page()

    assert "O bot Bot de teste parou. O Telegram recusou o token. Gere outro no @BotFather" in page
    assert "não gerou o último PIX. Ele respondeu: 401: token inválido. Confira as credenciais" in page
    assert "A medição do anúncio “pixel” está parada. A Meta recusou a chave." in page
    assert "Os avisos do banco não chegam aqui." in page


def test_a_gateway_in_pause_says_since_what_and_until_when(ours: Ours) -> None:
    ours.gateway.failures, ours.gateway.last_error = 5, "answered 503"
    ours.gateway.open_until = ours.now + timedelta(minutes=2)
    told = f"Falhou 5 vezes seguidas. Testamos de novo sozinhos, num PIX de verdade, a partir das {ours.gateway.open_until.astimezone(SAO_PAULO):%H:%M}."

    assert f"PushinPay está em pausa. {told} Ele respondeu: answered 503." in ours.page()
    assert f"Em pausa automática {told} Até lá, os outros vêm antes." in ours.page("/recebimento")

    ours.gateway.open_until = ours.now - timedelta(minutes=2)
    assert "Testamos de novo sozinhos, no próximo PIX." in ours.page("/recebimento")


def test_an_archived_account_alarms_nobody(ours: Ours) -> None:
    ours.gateway.last_error, ours.gateway.last_error_at = "401", ours.now
    ours.gateway.open_until = ours.gateway.archived_at = ours.now

    assert "não gerou o último PIX" not in ours.page()
    assert "está em pausa" not in ours.page()


def test_an_old_error_and_a_missing_address_without_an_account_alarm_nobody(ours: Ours) -> None:
    ours.gateway.active = False
    ours.gateway.last_error, ours.gateway.last_error_at = "x", ours.now - timedelta(days=3)

    assert "Precisa de atenção" not in ours.page()


def test_the_steps_are_checked_and_go_away_with_the_first_sale(panel: World, cast: Cast) -> None:
    ana = panel.client(cast.ana)
    assert "1 de 5 prontos" in words(ana.get(f"/loja/{cast.shop.id}/"))
    with panel.acting(cast.shop):
        ours = Ours(panel, cast)
        ours.sale(test=True)
        assert "3 de 5 prontos" in ours.page()
        ours.sale()
        assert "prontos" not in ours.page()


# Vendas -------------------------------------------------------------------------------------------------------------


def test_filters_show_their_sales_and_no_others(ours: Ours) -> None:
    names = {"paid": "Paga", "pending": "Pendente", "expired": "Vencida", "refunded": "Devolvida"}
    for status, name in names.items():
        sale(customer(ours.bot, name), ours.offer, ours.gateway, status)
    sale(customer(ours.bot, "Testada"), ours.offer, ours.gateway, test=True)

    def shown(view: str) -> set[str]:
        page = ours.page(f"/vendas?situacao={view}")
        return {name for name in [*names.values(), "Testada"] if f"{name} " in page.partition("Hoje")[2]}

    assert set(names.values()) == shown("todas")
    assert {"Paga"} == shown("pagas")
    assert {"Pendente"} == shown("pendentes")
    assert {"Vencida"} == shown("nao-pagas")
    assert {"Devolvida"} == shown("devolvidas")
    assert {"Testada"} == shown("teste")


def test_more_sales_come_page_by_page_without_gap_or_double(ours: Ours) -> None:
    same = ours.now - timedelta(minutes=5)
    for number in range(65):
        sale(
            customer(ours.bot, f"Pessoa{number:02d}"),
            ours.offer,
            ours.gateway,
            "expired",
            same - timedelta(days=number // 20),
        )
    db.session.commit()
    ana, path, seen, days = ours.panel.client(ours.cast.ana), f"/loja/{ours.seller_id}/vendas", [], []
    while path:
        answer = ana.get(path, htmx=True)
        seen += re.findall(r"Pessoa\d\d", words(answer))
        days += re.findall(r"<h2>([^<]+)</h2>", answer.text)
        links = re.findall(r'hx-get="([^"]+)"', answer.text)
        path = links[0].replace("&amp;", "&") if links else ""

    assert [f"Pessoa{number:02d}" for number in range(65)] == sorted(seen)
    assert len(set(days)) == len(days) == 4
    assert days[:2] == ["Hoje", "Ontem"]


@pytest.mark.parametrize("cursor", ["x", "1-", "-1", "9" * 30 + "-1", "1-" + "9" * 30, "1-2-3", "²-1"])
def test_a_made_up_cursor_is_the_first_page(ours: Ours, cursor: str) -> None:
    assert "Lívia Nunes" in (ours.sale() and ours.page(f"/vendas?antes={cursor}"))


def test_an_empty_list_says_what_will_be_there(panel: World, cast: Cast) -> None:
    page = words(panel.client(cast.ana).get(f"/loja/{cast.shop.id}/vendas"))

    assert "Quando alguém gerar um PIX no seu bot, a venda aparece aqui na hora." in page
    assert "Fazer uma venda de teste" in page


# Uma venda ----------------------------------------------------------------------------------------------------------


def test_a_sale_tells_its_story_from_click_to_measurement(ours: Ours) -> None:
    link = add(Link(seller_id=ours.seller_id, slug=f"s{ours.seller_id}", bot_id=ours.bot.id))
    click = Click(seller_id=ours.seller_id, link_id=link.id, tracking_token=f"t{ours.seller_id}", visitor_sealed=b"x")
    click.params, click.at = {"utm_source": "instagram", "utm_campaign": "novembro"}, ours.now - timedelta(minutes=20)
    payment = sale(ours.person, ours.offer, ours.gateway, "paid", ours.now - timedelta(minutes=9), click=add(click))
    notice(payment, ours.gateway, ours.now - timedelta(minutes=7, seconds=1))

    page = ours.page(f"/vendas/{payment.payment_id}")

    story = page.partition("Linha do tempo")[2]
    expected = [
        "Clique no anúncio",
        "Começou a conversa",
        "Pedido feito",
        "PIX gerado",
        "Aviso do banco aceito",
        "Pago",
        "Entregue",
    ]
    places = [story.index(step) for step in expected]
    assert sorted(places) == places
    assert "instagram · novembro" in story
    assert "João Vítor Souza" in page


def test_an_unknown_event_is_shown_by_its_name(ours: Ours) -> None:
    payment = ours.sale("pending")
    event(payment, "brand_new_thing", ours.now, whatever=[1])

    assert "Brand new thing" in ours.page(f"/vendas/{payment.payment_id}")


def test_unknown_states_of_every_stage_are_shown_plainly(ours: Ours) -> None:
    payment = ours.sale("paid", ours.now - timedelta(minutes=3))
    notice(payment, ours.gateway, ours.now, state="never_seen")
    db.session.scalars(select(Delivery).filter_by(payment_id=payment.id)).one().state = "in_orbit"
    db.session.scalars(select(ChargeAttempt).filter_by(payment_id=payment.id)).one().state = "in_orbit"
    payment.status = "disputed"

    page = ours.page(f"/vendas/{payment.payment_id}")

    assert all(told in page for told in ("Never seen", "In orbit", "Disputed"))


def test_an_open_sale_says_what_it_waits_for(ours: Ours) -> None:
    assert "Esperando o pagamento…" in ours.page(f"/vendas/{ours.sale('pending').payment_id}")


def test_a_gateway_that_failed_is_named_with_its_reason(ours: Ours) -> None:
    payment = sale(ours.person, ours.offer, None, "failed")
    event(payment, "gateway_failed", ours.now, gateway=ours.gateway.id, error="limite excedido")

    assert "Um recebimento não gerou o PIX principal: limite excedido" in ours.page(f"/vendas/{payment.payment_id}")


def test_an_attempt_that_no_event_told_of_is_in_the_story(ours: Ours) -> None:
    payment = sale(ours.person, ours.offer, None, "new")
    add(ChargeAttempt(seller_id=ours.seller_id, payment_id=payment.id, gateway_id=ours.gateway.id))

    assert "Pedindo o PIX ao recebimento principal" in ours.page(f"/vendas/{payment.payment_id}")


def account(ours: Ours, name: str) -> int:
    gateway = Gateway(seller_id=ours.seller_id, name=name, kind="pushinpay")
    sellers.add_gateway(gateway, {})
    return gateway.id


def test_a_sale_says_why_it_was_charged_where_it_was(ours: Ours) -> None:
    payment = ours.sale("pending")
    first, second, due, left, off, small, gone = (
        account(ours, name) for name in ("lenta", "boa", "testada", "cansada", "desligada", "cara", "antiga")
    )
    told = {"priority": 1, "weight": 1}
    tired = {**told, "failures": 5, "open_until": ours.now.isoformat()}
    decision = Decision(
        seller_id=ours.seller_id, payment_id=payment.id, turn=6, round=4, asks=[first, due, second, left]
    )
    decision.candidates = [
        {"gateway": first, **told, "verdict": "fit"},
        {"gateway": second, **told, "verdict": "fit"},
        {"gateway": due, **tired, "verdict": "due"},
        {"gateway": left, **tired, "verdict": "paused"},
        {"gateway": off, **told, "verdict": "off"},
        {"gateway": small, **told, "verdict": "below_minimum"},
        {"gateway": gone, **told, "verdict": "unknown"},
    ]
    add(decision)
    for gateway, state in ((first, "unknown"), (second, "made")):
        add(ChargeAttempt(seller_id=ours.seller_id, payment_id=payment.id, gateway_id=gateway, state=state))
        db.session.commit()
    db.session.execute(text("update decision set at = at - interval '1 second'"))

    page = ours.page(f"/vendas/{payment.payment_id}")

    assert "Por que este recebimento lenta 1º: era a vez dele (3 de 4). Não deu uma resposta que servisse" in page
    assert "testada 2º: em teste depois de 5 falhas seguidas. Não foi pedido: outra venda o testava" in page
    assert "boa 3º: na reserva, se o anterior falhar. Gerou o PIX." in page
    assert "cansada 4º: em pausa por 5 falhas seguidas; só se nenhum outro gerar. desligada De fora: desligado." in page
    assert "cara De fora: o valor está abaixo do mínimo dele, R$ 0,50." in page
    assert "antiga De fora: o programa não conhece mais este provedor." in page


def test_a_sale_that_was_not_decided_yet_says_nothing_of_why(ours: Ours) -> None:
    assert "Por que este recebimento" not in ours.page(f"/vendas/{ours.sale('new').payment_id}")


def test_what_a_customer_is_called_is_not_read_as_html(ours: Ours) -> None:
    payment = sale(customer(ours.bot, "<b>Zé</b>", "<script>"), ours.offer, ours.gateway)
    db.session.commit()

    html = ours.panel.client(ours.cast.ana).get(f"/loja/{ours.seller_id}/vendas/{payment.payment_id}").text

    assert "&lt;b&gt;Zé&lt;/b&gt; &lt;script&gt;" in html


def test_a_profile_that_cannot_be_read_leaves_a_number(ours: Ours) -> None:
    ours.person.profile_sealed = b"nonsense that no key opens"
    payment = sale(ours.person, ours.offer, ours.gateway)

    assert f"Cliente {ours.person.id}" in ours.page(f"/vendas/{payment.payment_id}")


@pytest.mark.parametrize("name", ["BOT1_0", "%00", "a'b", "é"])
def test_a_sale_that_is_not_there_is_not_found(panel: World, cast: Cast, name: str) -> None:
    assert panel.client(cast.ana).get(f"/loja/{cast.shop.id}/vendas/{name}").status_code == 404


# Bots, recebimento --------------------------------------------------------------------------------------------------


def test_what_a_provider_wants_of_the_buyer_and_that_it_is_experimental_is_told(
    ours: Ours, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "pede do comprador" not in ours.page("/recebimento")
    edge = type(gateways.get("pushinpay"))
    monkeypatch.setattr(edge, "payer_needs", frozenset({PayerField.DOCUMENT, PayerField.NAME}))
    monkeypatch.setattr(edge, "experimental", True)

    page = ours.page("/recebimento")

    assert "pede do comprador: nome completo e CPF ou CNPJ." in page
    assert "Experimental." in page


def test_a_bot_says_its_state_and_its_remedy(ours: Ours) -> None:
    ours.bot.state, ours.bot.state_note, ours.bot.last_update_at = BotState.REFUSED, "Unauthorized", ours.now
    add(Link(seller_id=ours.seller_id, slug=f"promo{ours.seller_id}", bot_id=ours.bot.id))

    page = ours.page("/bots")

    assert "Parado" in page
    assert "Gere outro no @BotFather e troque o token deste bot." in page
    assert "O Telegram disse: Unauthorized" in page
    assert "Última mensagem recebida agora" in page
    assert f"/go/promo{ours.seller_id}" in page


def test_an_archived_bot_is_not_shown(ours: Ours) -> None:
    ours.bot.archived_at = ours.now

    assert "Nenhum bot ainda" in ours.page("/bots")


def test_an_account_says_what_it_last_did(ours: Ours) -> None:
    ours.gateway.last_charge_at, ours.gateway.last_notice_at = (
        ours.now - timedelta(minutes=3),
        ours.now - timedelta(hours=2),
    )

    page = ours.page("/recebimento")

    assert "Funcionando" in page
    assert "Último PIX gerado há 3 min" in page
    assert "Último aviso do banco há 2 h" in page


def test_only_the_owner_is_given_the_address_of_notices(ours: Ours) -> None:
    secret = doors.fingerprint
    ours.page("/recebimento")

    pages = {
        email: ours.panel.client(email).get(f"/loja/{ours.seller_id}/recebimento").text
        for email in (ours.cast.ana, ours.cast.bia)
    }

    given = re.findall(r"/webhook/pushinpay/([\w-]{43})", pages[ours.cast.ana])
    with ours.panel.app.app_context():
        assert doors.enter(DoorKind.GATEWAY, secret(given[0])) is not None
    assert "/webhook/" not in pages[ours.cast.bia]
    assert given[0] not in words_of(pages[ours.cast.ana])


def words_of(html: str) -> str:
    return re.sub(r"<[^>]+>", " ", html)


# Comece aqui --------------------------------------------------------------------------------------------------------


def test_an_operator_makes_a_shop_and_lands_in_its_test_chat(panel: World, cast: Cast) -> None:
    olga = panel.client(cast.olga)
    assert f'value="{cast.olga}"' in olga.get("/comece").text

    answer = olga.post("/comece", {"name": " Loja Nova ", "email": cast.olga, "example": "y"}, follow_redirects=True)

    assert answer.request.path.endswith("/conversa")
    assert "Loja Nova" in words(answer)
    assert "Começar" in words(answer)
    seller_id = int(answer.request.path.split("/")[2])
    with panel.app.app_context():
        panel_world.context(panel.app, seller_id)
        assert db.session.scalar(select(Membership.role).filter_by(seller_id=seller_id)) == "owner"


def test_the_example_is_a_test_bot_that_sells_a_course(panel: World, cast: Cast) -> None:
    panel.client(cast.olga).post("/comece", {"name": "Loja", "email": cast.olga, "example": "y"})
    with panel.app.app_context():
        shop = db.session.scalar(select(Membership.seller_id).order_by(Membership.seller_id.desc()).limit(1))
    with panel_world.context(panel.app, shop):
        bot = db.session.scalars(select(Bot)).one()
        assert (bot.test, bot.state, bot.token_sealed) == (True, BotState.UNCONNECTED, None)
        assert [(offer.name, offer.price_cents) for offer in bot.offers] == [("Curso de exemplo", 4990)]
        assert {"sandbox"} == set(db.session.scalars(select(Gateway.kind)))
        assert doors.enter(DoorKind.BOT, bot.public_id) is not None


def test_a_shop_without_the_example_is_empty(panel: World, cast: Cast) -> None:
    answer = panel.client(cast.olga).post("/comece", {"name": "Loja", "email": cast.olga}, follow_redirects=True)

    assert "Nenhum bot ainda" in words(answer)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"name": "", "email": "a@example.com"}, "Dê um nome à loja."),
        ({"name": "Loja", "email": "nope"}, "Este e-mail não parece certo."),
        ({"name": "Loja", "email": ""}, "Escreva um e-mail."),
    ],
)
def test_a_wrong_field_is_named_and_the_rest_is_kept(panel: World, cast: Cast, form: dict[str, str], says: str) -> None:
    answer = panel.client(cast.olga).post("/comece", form)

    assert answer.status_code == 422
    assert says in words(answer)
    assert f'value="{form["name"]}"' in answer.text


def test_one_email_has_one_shop(panel: World, cast: Cast) -> None:
    olga, form = panel.client(cast.olga), {"name": "Loja", "email": cast.olga, "example": "y"}
    olga.post("/comece", form)

    answer = olga.post("/comece", form)

    assert answer.status_code == 422
    assert "Já existe uma loja com este e-mail." in words(answer)


def test_who_has_a_shop_makes_no_other(panel: World, cast: Cast) -> None:
    ana = panel.client(cast.ana)

    assert ana.post("/comece", {"name": "Loja", "email": "x@example.com"}).status_code == 302
    assert ana.get("/comece").status_code == 302
    assert panel.client().get("/comece").status_code == 302
