"""The operator's room: who gets in, what it shows, and what its buttons do."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import delete, text

from bot_manager import log
from bot_manager.app import vault
from bot_manager.ops import dead_letters
from bot_manager.security import events
from bot_manager.security.events import Kind
from models import Bot, Conversion, Delivery, Destination, Inbox, Offer, Retry, RetryBatch, SecurityEvent, db
from tests.panel_world import Browser, Cast, World, customer, sale, words

PAGES = ("/operacao/fila", "/operacao/seguranca", "/operacao/fila/lote", "/operacao/fila/lote/1")
ACTS = ("/operacao/fila/tentar", "/operacao/fila/lote", "/operacao/fila/lote/1/parar")


@pytest.fixture(autouse=True)
def empty(panel: World) -> None:
    """What the room shows is everybody's, so each test begins with nothing."""
    with panel.app.app_context():
        db.session.execute(delete(SecurityEvent))
        db.session.commit()


@pytest.fixture
def dead(panel: World, cast: Cast) -> list[int]:
    """Three updates of ana's shop that could not be read; the ids of their rows."""
    return [_dead(panel, cast, number) for number in range(3)]


def _dead(panel: World, cast: Cast, number: int, raw: str = "not json") -> int:
    with panel.acting(cast.shop):
        sealed = vault().seal_json({"raw": raw}, "inbox.body", cast.shop.id)
        row = Inbox(seller_id=cast.shop.id, bot_id=cast.shop.bot_id, channel="telegram", chat_id="", state="dead")
        row.event_key, row.body_sealed, row.trace_id = f"unreadable:{uuid.uuid4().hex}", sealed, f"trace-{number}"
        row.last_error = "NotAnUpdate: <svg onload=alert(1)>"
        db.session.add(row)
        db.session.commit()
        return row.id


def olga(panel: World, cast: Cast) -> Browser:
    return panel.client(cast.olga)


def only(cast: Cast) -> str:
    return f"loja={cast.shop.id}"


# Who gets in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, *ACTS])
def test_the_room_does_not_exist_for_who_is_no_operator(panel: World, cast: Cast, path: str) -> None:
    for email in (cast.ana, cast.bia, cast.caio):
        browser = panel.client(email)
        assert (browser.post(path) if path in ACTS else browser.get(path)).status_code == 404


@pytest.mark.parametrize("path", [*PAGES, *ACTS])
def test_who_is_not_logged_in_is_asked_to(panel: World, path: str) -> None:
    answer = panel.client().post(path) if path in ACTS else panel.client().get(path)

    assert answer.status_code == 302
    assert answer.location.startswith("/login")


@pytest.mark.parametrize("path", ACTS)
def test_an_act_needs_a_form_of_ours(panel: World, cast: Cast, path: str) -> None:
    assert olga(panel, cast).client.post(path, data={"que": "update", "id": "1"}).status_code == 400


def test_an_operator_finds_the_way_in_from_every_page_and_nobody_else_does(panel: World, cast: Cast) -> None:
    assert 'href="/operacao/fila"' in olga(panel, cast).get("/comece").text
    assert "/operacao" not in panel.client(cast.ana).get(f"/loja/{cast.shop.id}/").text


# Security ---------------------------------------------------------------------------------------------------------


def seen(panel: World, kind: Kind, seller: int | None = None, **detail: Any) -> None:
    with panel.app.app_context(), log.bound(f"trace-of-{kind}"):
        events.origin.set("198.51.100.7")
        events.report(kind, seller, **detail)
        db.session.commit()


def test_events_are_shown_with_their_count_origin_and_trace(panel: World, cast: Cast) -> None:
    for _ in range(3):
        seen(panel, Kind.WRONG_WEBHOOK_SECRET, gateway_kind="<b>x</b>")
    seen(panel, Kind.FORGED_NOTICE, cast.shop.id, about="receipt 7", gateway=4, receipt=7)

    page = olga(panel, cast).get("/operacao/seguranca")
    said = words(page)

    assert page.status_code == 200
    assert "Todos 4" in said
    assert "Aviso com segredo errado 3" in said
    assert "3 vezes" in said
    assert "de 198.51.100.7" in said
    assert f"Clube da Receita (nº {cast.shop.id})" in said
    assert "trace-of-forged_notice" in said
    assert "<b>x</b>" not in page.text


def test_events_are_narrowed_by_kind_shop_and_day(panel: World, cast: Cast) -> None:
    seen(panel, Kind.WRONG_WEBHOOK_SECRET)
    seen(panel, Kind.FORGED_NOTICE, cast.shop.id, about="receipt 1")
    with panel.app.app_context():
        db.session.execute(text("update security_event set at = '2026-03-01 02:59+00' where kind = 'forged_notice'"))
        db.session.commit()

    def traces(query: str) -> set[str]:
        said = words(olga(panel, cast).get(f"/operacao/seguranca?{query}"))
        return {kind for kind in ("wrong_webhook_secret", "forged_notice") if f"trace-of-{kind}" in said}

    assert traces("") == {"wrong_webhook_secret", "forged_notice"}
    assert traces("tipo=forged_notice") == {"forged_notice"}
    assert traces(only(cast)) == {"forged_notice"}
    assert traces(f"loja={cast.other.id}") == set()
    assert traces("dia=2026-02-28") == {"forged_notice"}  # a day in Brazil
    assert traces("dia=2026-03-01") == set()


def test_a_long_list_goes_on_where_it_ended(panel: World, cast: Cast) -> None:
    with panel.app.app_context():
        for number in range(60):
            row = SecurityEvent(kind="forged_notice", seller_id=cast.shop.id, detail={}, trace_id=f"number-{number}-")
            db.session.add(row)
        db.session.commit()

    browser, found = olga(panel, cast), set()
    path = f"/operacao/seguranca?{only(cast)}"
    for _ in range(2):
        page = browser.get(path).text
        found |= {number for number in range(60) if f"number-{number}-" in page}
        path = page.partition("Mostrar mais")[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")

    assert found == set(range(60))


@pytest.mark.parametrize("room", ["fila", "seguranca", "fila/lote"])
@pytest.mark.parametrize(
    "query",
    ["loja=x", "loja=-1", "loja=٣", "loja=" + "9" * 40, "dia=x", "dia=9999-12-31", "dia=2026-02-30", "dia=٢٠٢٦-01-01",
     "dia=20260101aa", "antes=x", "antes=" + "9" * 30, "antes=1-job-1", "antes=1-x-1", "antes=" + "9" * 18 + "-job-1",
     "tipo=%00", "que=%00", "que=nada&tipo=nada", "feito=%00", "tipo=" + "x" * 5000],
)  # fmt: skip
def test_a_filter_that_makes_no_sense_breaks_nothing(panel: World, cast: Cast, room: str, query: str) -> None:
    assert olga(panel, cast).get(f"/operacao/{room}?{query}").status_code == 200


# Dead letters -----------------------------------------------------------------------------------------------------


def test_what_stopped_is_shown_with_whose_it_is_and_its_last_error(panel: World, cast: Cast, dead: list[int]) -> None:
    page = olga(panel, cast).get(f"/operacao/fila?{only(cast)}")
    said = words(page)

    assert "Tudo 3" in said
    assert f"Clube da Receita (nº {cast.shop.id})" in said
    assert "NotAnUpdate" in said
    assert "<svg onload" not in page.text
    assert "trace-2" in said


def test_trying_one_again_says_what_became_of_it(panel: World, cast: Cast, dead: list[int]) -> None:
    browser = olga(panel, cast)

    answer = browser.post(
        f"/operacao/fila/tentar?{only(cast)}", {"que": "update", "id": str(dead[0])}, follow_redirects=True
    )

    assert "Continua ilegível" in words(answer)
    with panel.acting(cast.shop):
        [done] = db.session.query(Retry).all()
        assert (done.row_id, done.state, done.asked_by) == (dead[0], "stuck", cast.olga)


def test_deliveries_and_purchases_that_were_refused_are_shown_and_tried_again(panel: World, cast: Cast) -> None:
    with panel.acting(cast.shop):
        bot, offer = db.session.get_one(Bot, cast.shop.bot_id), db.session.get_one(Offer, cast.shop.offer_id)
        payment = sale(customer(bot, "Lívia"), offer, None)
        delivery = db.session.query(Delivery).filter_by(payment_id=payment.id).one()
        delivery.state, delivery.note = "failed", "Refused: nope"
        pixel = Destination(seller_id=cast.shop.id, name="pixel", kind="meta", pixel_id="1", access_token_sealed=b"")
        db.session.add(pixel)
        db.session.flush()
        told = {
            "event_name": "Purchase",
            "event_id": "x",
            "event_time": payment.paid_at,
            "trace_id": "",
            "state": "dead",
        }
        db.session.add(Conversion(seller_id=cast.shop.id, destination_id=pixel.id, payment_id=payment.id, **told))
        delivery_id = delivery.id
        db.session.commit()
    browser = olga(panel, cast)
    said = words(browser.get(f"/operacao/fila?{only(cast)}"))
    assert "Entrega que o canal recusou" in said
    assert "Refused: nope" in said
    assert "Compra que o anúncio recusou" in words(browser.get(f"/operacao/fila?{only(cast)}&que=purchase"))

    path = f"/operacao/fila/tentar?{only(cast)}"
    answer = browser.post(path, {"que": "delivery", "id": str(delivery_id)}, follow_redirects=True)

    assert "Tentando de novo" in words(answer)
    with panel.acting(cast.shop):
        assert db.session.get_one(Delivery, delivery_id).state == "waiting"


@pytest.mark.parametrize("form", [{"que": "update", "id": "0"}, {"que": "x", "id": "1"}, {"que": "job", "id": "٣"}, {}])
def test_what_is_not_there_is_said_to_be_taken_care_of(panel: World, cast: Cast, form: dict[str, str]) -> None:
    answer = olga(panel, cast).post("/operacao/fila/tentar", form, follow_redirects=True)

    assert "Alguém já cuidou disso" in words(answer)


def test_a_set_is_shown_before_it_is_tried_and_its_number_written(panel: World, cast: Cast, dead: list[int]) -> None:
    browser, path = olga(panel, cast), f"/operacao/fila/lote?{only(cast)}"
    shown = words(browser.get(path))
    assert "3 de 3" in shown
    assert "escreva 3" in shown

    for wrong in ("", "2", "٣", "três"):
        refused = browser.post(path, {"quantas": wrong})
        assert refused.status_code == 422
        assert "São 3 agora" in words(refused)
    with panel.acting(cast.shop):
        assert db.session.query(Retry).count() == 0

    answer = browser.post(path, {"quantas": "3"})
    assert answer.status_code == 303
    progress = words(browser.get(answer.location))
    assert "0 de 3 Em andamento." in progress
    assert f"Pedido por {cast.olga}, agora" in progress


def test_a_set_that_grew_meanwhile_is_shown_again(panel: World, cast: Cast, dead: list[int]) -> None:
    _dead(panel, cast, 9)

    answer = olga(panel, cast).post(f"/operacao/fila/lote?{only(cast)}", {"quantas": "3"})

    assert answer.status_code == 422
    assert "São 4 agora" in words(answer)


def test_no_more_than_the_cap_is_taken_at_a_time(
    panel: World, cast: Cast, dead: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "CAP", 2)
    monkeypatch.setattr("web.panel.letters.CAP", 2)
    browser, path = olga(panel, cast), f"/operacao/fila/lote?{only(cast)}"

    assert "2 de 3 : no máximo 2 por vez" in words(browser.get(path))
    browser.post(path, {"quantas": "2"})

    with panel.acting(cast.shop):
        assert {row.row_id for row in db.session.query(Retry)} == set(dead[:2])


def test_a_set_under_way_can_be_stopped_and_says_so(panel: World, cast: Cast, dead: list[int]) -> None:
    browser = olga(panel, cast)
    batch = browser.post(f"/operacao/fila/lote?{only(cast)}", {"quantas": "3"}).location
    assert 'hx-trigger="every 2s"' in browser.get(batch, htmx=True).text

    answer = browser.post(f"{batch}/parar", follow_redirects=True)

    assert "Parado. O resto ficou na fila." in words(answer)
    assert "hx-trigger" not in browser.get(batch, htmx=True).text
    assert "Tudo 3" in words(browser.get(f"/operacao/fila?{only(cast)}"))


@pytest.mark.parametrize("number", ["0", "9" * 18, "9" * 60])
def test_a_batch_that_is_not_there_is_not_found(panel: World, cast: Cast, number: str) -> None:
    assert olga(panel, cast).get(f"/operacao/fila/lote/{number}").status_code == 404
    assert olga(panel, cast).post(f"/operacao/fila/lote/{number}/parar").status_code == 404


def test_a_batch_keeps_who_asked_for_it_and_what(panel: World, cast: Cast, dead: list[int]) -> None:
    olga(panel, cast).post(f"/operacao/fila/lote?{only(cast)}&que=update&tipo=update_unreadable", {"quantas": "3"})

    with panel.app.app_context():
        batch = db.session.query(RetryBatch).order_by(RetryBatch.id.desc()).first()
        assert batch
        assert (batch.asked_by, batch.size) == (cast.olga, 3)
        assert (batch.wanted["what"], batch.wanted["kind"]) == ("update", "update_unreadable")
        assert batch.wanted["seller"] == str(cast.shop.id)
