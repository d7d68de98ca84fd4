"""The test chat, against a core that answers at once."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from werkzeug.test import TestResponse

from bot_manager.messages import content_of
from models import Customer, Inbox, Message, Payment, db
from tests import panel_world
from tests.panel_world import Browser, Cast, World, words
from web.panel import chat as room


class Chat:
    def __init__(self, panel: World, cast: Cast, email: str) -> None:
        self.panel, self.cast = panel, cast
        self.browser: Browser = panel.client(email)
        self.path = f"/loja/{cast.shop.id}/bots/{cast.shop.bot_id}/conversa"

    def see(self, **options: Any) -> TestResponse:
        return self.browser.get(self.path, **options)

    def post(self, **data: str) -> TestResponse:
        return self.browser.post(self.path, data, htmx=True)

    def start(self) -> TestResponse:
        return self.post(start=_values(self.see(), "start")[-1])

    def buy(self) -> TestResponse:
        return self.post(tap=_values(self.start(), "tap")[-1])

    def approve(self, payment_id: str) -> TestResponse:
        return self.browser.post(f"{self.path}/aprovar", {"payment": payment_id}, htmx=True)

    def rows(self, model: Any) -> list[Any]:
        with self.panel.acting(self.cast.shop):
            return list(db.session.scalars(select(model).order_by(model.id)))


def _values(answer: TestResponse, name: str) -> list[str]:
    return re.findall(rf'name="{name}" value="([^"]+)"', answer.text)


@pytest.fixture
def chat(panel: World, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> Chat:
    monkeypatch.setattr("bot_manager.conversations.hear", panel_world.hear)
    monkeypatch.setattr("bot_manager.sales.approve_test_sale", panel_world.approve)
    monkeypatch.setattr("bot_manager.sales.NotATestSale", panel_world.NotATestSale)
    return Chat(panel, cast, cast.ana)


def test_a_sale_is_made_from_hello_to_delivery(chat: Chat) -> None:
    hello = chat.start()
    assert "Bem-vindo à Clube da Receita" in words(hello)
    assert "Curso de exemplo · R$ 49,90" in words(hello)

    offered = chat.post(tap=_values(hello, "tap")[-1])
    assert panel_world.PIX_CODE in offered.text
    assert "Aprovar pagamento" in words(offered)

    paid = chat.approve(_values(offered, "payment")[0])
    assert "Pagamento confirmado!" in words(paid)
    assert "Pago e entregue" in words(paid)
    story = chat.browser.get(re.findall(r'href="([^"]+/vendas/[^"]+)"', paid.text)[0])
    assert "Entregue" in words(story)


def test_a_double_click_is_one_event(chat: Chat) -> None:
    tap = _values(chat.start(), "tap")[-1]

    for _ in range(2):
        chat.post(tap=tap)

    assert len(chat.rows(Inbox)) == 2
    assert len(chat.rows(Payment)) == 1


def test_the_same_button_may_be_tapped_again_later(chat: Chat) -> None:
    first = chat.buy()
    again = chat.post(tap=_values(first, "tap")[-1])
    chat.post(tap=_values(again, "tap")[-1])

    assert len(chat.rows(Inbox)) == 4


def test_two_buttons_pressed_at_once_are_two_events(chat: Chat) -> None:
    offered = chat.buy()
    taps = set(_values(offered, "tap"))

    assert len({tap.partition(" ")[0] for tap in taps}) == len(taps) == 2


def test_what_is_typed_is_heard_and_start_is_a_start(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[Any, ...]] = []
    monkeypatch.setattr("bot_manager.conversations.hear", lambda *args: heard.append(args[1:]))
    keys = [str(uuid.uuid4()) for _ in range(3)]

    for key, text in zip(keys, ("  oi  ", "/start abc", "x" * 9000), strict=True):
        chat.post(event_key=key, text=text)

    bodies = [{"kind": "text", "text": "oi"}, {"kind": "start", "text": "abc"}, {"kind": "text", "text": "x" * 4096}]
    assert [("panel", f"panel:{key}", body) for key, body in zip(keys, bodies, strict=True)] == [
        (channel, key, body) for channel, _, key, body in heard
    ]
    assert all(re.fullmatch(r"user-\d+", chat_id) for _, chat_id, _, _ in heard)


def test_empty_words_are_no_event(chat: Chat) -> None:
    assert chat.post(event_key=str(uuid.uuid4()), text="   ").status_code == 200
    assert chat.rows(Inbox) == []


@pytest.mark.parametrize("data", [{"text": "oi", "event_key": "x"}, {"text": "oi"}, {"tap": "x buy:1"}, {"start": ""}])
def test_an_event_without_a_key_is_refused(chat: Chat, data: dict[str, str]) -> None:
    assert chat.post(**data).status_code == 400


def test_without_scripts_a_form_leads_back_to_the_page(chat: Chat) -> None:
    answer = chat.browser.post(chat.path, {"text": "oi", "event_key": str(uuid.uuid4())})

    assert (303, chat.path) == (answer.status_code, answer.location)
    assert "oi" in words(chat.see())


def test_two_people_who_test_do_not_meet(chat: Chat) -> None:
    chat.start()

    bia = replace_email(chat, chat.cast.bia)

    assert "Bem-vindo" not in words(bia.see())
    assert bia.browser.get(_qr(chat.buy())).status_code == 404


def replace_email(chat: Chat, email: str) -> Chat:
    return Chat(chat.panel, replace(chat.cast), email)


def _qr(answer: TestResponse) -> str:
    return re.findall(r'<img class="p-qr" src="([^"]+)"', answer.text)[0]


def test_the_qr_code_is_a_picture_of_its_own(chat: Chat) -> None:
    answer = chat.browser.get(_qr(chat.buy()))

    assert answer.mimetype == "image/svg+xml"
    assert answer.text.startswith("<?xml")
    assert "style=" not in answer.text
    assert "private" in answer.headers["Cache-Control"]


def test_a_message_without_a_code_has_no_picture(chat: Chat) -> None:
    chat.start()
    message = chat.rows(Message)[0]

    assert chat.browser.get(f"{chat.path}/{message.id}.svg").status_code == 404


def test_only_a_test_sale_is_approved_by_hand(chat: Chat) -> None:
    chat.buy()
    with chat.panel.acting(chat.cast.shop):
        payment = db.session.scalars(select(Payment)).one()
        payment.test = False
        payment_id = payment.payment_id
        db.session.commit()

    answer = chat.approve(payment_id)

    assert answer.status_code == 409
    assert answer.headers["HX-Retarget"] == "#notice"
    assert [payment.status for payment in chat.rows(Payment)] == ["pending"]


def test_approving_twice_pays_once(chat: Chat) -> None:
    payment_id = _values(chat.buy(), "payment")[0]

    answers = [chat.approve(payment_id).status_code for _ in range(2)]

    assert answers == [200, 200]
    with chat.panel.acting(chat.cast.shop):
        assert sum("Pagamento confirmado" in content_of(message).text for message in chat.rows(Message)) == 1


@pytest.mark.parametrize("payment", ["", "BOT1_x"])
def test_a_payment_that_is_not_of_this_bot_is_not_found(chat: Chat, payment: str) -> None:
    assert chat.approve(payment).status_code == 404


def test_what_no_database_can_keep_is_refused_before_it_is_heard(chat: Chat) -> None:
    assert chat.approve("\0").status_code == 400
    assert chat.post(event_key=str(uuid.uuid4()), text="oi\0").status_code == 400
    assert chat.rows(Inbox) == []


def test_polling_answers_nothing_while_nothing_changed(chat: Chat) -> None:
    url = re.findall(r'hx-get="([^"]+)"', chat.start().text)[0].replace("&amp;", "&")

    assert chat.browser.get(url, htmx=True).status_code == 204
    chat.post(event_key=str(uuid.uuid4()), text="oi")
    assert chat.browser.get(url, htmx=True).status_code == 200


def test_it_asks_every_second_only_while_something_is_on_its_way(chat: Chat) -> None:
    assert 'hx-trigger="every 4s"' in chat.start().text
    _age_inbox(chat, timedelta(seconds=3), "new")
    waiting = chat.see()
    assert 'hx-trigger="every 1s"' in waiting.text
    assert "digitando…" in waiting.text
    assert "Está demorando" not in words(waiting)


def test_a_bot_that_does_not_answer_says_what_to_look_at(chat: Chat) -> None:
    chat.start()
    _age_inbox(chat, timedelta(seconds=30), "new")

    assert "Quem responde é o processo worker" in words(chat.see())


def _age_inbox(chat: Chat, age: timedelta, state: str) -> None:
    with chat.panel.acting(chat.cast.shop):
        row = db.session.scalars(select(Inbox)).one()
        row.state, row.received_at = state, datetime.now(UTC) - age
        db.session.commit()


def test_messages_still_on_their_way_are_not_shown_yet(chat: Chat) -> None:
    chat.start()
    with chat.panel.acting(chat.cast.shop):
        db.session.scalars(select(Message)).one().state = "queued"
        db.session.commit()

    assert "Bem-vindo" not in words(chat.see())


def test_our_own_events_are_not_the_persons_words(chat: Chat) -> None:
    chat.start()
    with chat.panel.acting(chat.cast.shop):
        row = db.session.scalars(select(Inbox)).one()
        row.event_key = "sale:pix_ready:1"
        db.session.commit()

    assert "/start" not in words(chat.see()).partition("Mensagens")[2]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<b>a</b> <i>b</i> <code>c</code>", "<b>a</b> <i>b</i> <code>c</code>"),
        ("<script>alert(1)</script>ok", "ok"),
        ('<b onclick="x" style="y">a</b>', "<b>a</b>"),
        ('<a href="javascript:x">a</a>', '<a target="_blank" rel="noopener noreferrer">a</a>'),
        ("<img src=x onerror=y>1 &lt; 2", "1 &lt; 2"),
    ],
)
def test_of_a_messages_html_only_the_harmless_is_kept(text: str, shown: str) -> None:
    assert shown == str(room.clean(text))


def test_what_a_person_types_is_never_html(chat: Chat) -> None:
    answer = chat.post(event_key=str(uuid.uuid4()), text="<b>oi</b>")

    assert "&lt;b&gt;oi&lt;/b&gt;" in answer.text


def test_the_short_way_leads_to_the_test_bot(chat: Chat) -> None:
    assert chat.path == chat.browser.get(f"/loja/{chat.cast.shop.id}/conversa").location


def test_the_customer_is_the_tester(chat: Chat) -> None:
    chat.start()

    assert [customer.channel for customer in chat.rows(Customer)] == ["panel"]
