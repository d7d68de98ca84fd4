"""What a gateway wants to know of the payer: asked for when nothing else will do, read strictly, kept sealed."""

from __future__ import annotations

import pytest

import gateways
from bot_manager.funnels import payer, texts
from bot_manager.payments import payers
from gateways.base import ChargeRequest, Payer, PayerField
from models import Customer, db
from tests.line import Line
from tests.shops import Shop, open_shop
from tests.world.telegram.people import Person

CPF = "529.982.247-25"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Payer]:
    """Woovi wants a name and a document from here on; who it was told of, charge by charge."""
    edge = gateways.get("woovi")
    told: list[Payer] = []
    make_charge = type(edge).make_charge

    def remembers(self: object, account: object, request: ChargeRequest) -> object:
        told.append(request.payer)
        return make_charge(self, account, request)

    monkeypatch.setattr(type(edge), "payer_needs", frozenset({PayerField.DOCUMENT, PayerField.NAME}))
    monkeypatch.setattr(type(edge), "make_charge", remembers)
    return told


def tap(shop: Shop, person: Person, button: str) -> None:
    person.tap(shop.token, person.button(shop.token, button))
    shop.line.work()


def say(shop: Shop, person: Person, words: str) -> str:
    """What the bot answers."""
    person.say(shop.token, words)
    shop.line.work()
    return person.last(shop.token).text


def test_a_buyer_is_asked_for_what_the_only_gateway_wants_and_then_gets_the_code(
    line: Line, asked: list[Payer]
) -> None:
    shop = open_shop(line, gateways=("woovi",))
    person = line.world.telegram.person(first_name="Apelido")
    shop.visit(person)

    tap(shop, person, "Curso Completo")
    assert "nome completo" in person.last(shop.token).text
    assert not shop.payments()
    assert "sobrenome" in say(shop, person, "Maria")
    assert "CPF ou CNPJ" in say(shop, person, "Maria da Silva")
    assert "não confere" in say(shop, person, "529.982.247-26")
    say(shop, person, CPF)

    assert person.last(shop.token).marked("code")
    assert asked == [Payer(name="Maria da Silva", document="52998224725")]


def test_what_a_buyer_told_is_sealed_and_never_asked_again(line: Line, asked: list[Payer]) -> None:
    shop = open_shop(line, gateways=("woovi",))
    person = line.world.telegram.person()
    shop.visit(person)
    tap(shop, person, "Curso Completo")
    say(shop, person, "Maria da Silva")
    say(shop, person, CPF)
    line.change("update payment set status = 'expired'")

    tap(shop, person, "Curso Completo")

    assert len(asked) == 2
    (customer,) = line.rows("select state::text as state, profile_sealed from customer")
    assert "52998224725" not in customer["state"]
    assert b"52998224725" not in bytes(customer["profile_sealed"])
    with line.seller(shop.seller_id):
        (row,) = db.session.query(Customer).all()
        assert payers.of(row) == Payer(name="Maria da Silva", document="52998224725")


def test_nobody_is_asked_while_a_gateway_wants_nothing(line: Line, asked: list[Payer]) -> None:
    shop = open_shop(line, gateways=("woovi", "pushinpay"))
    person = line.world.telegram.person()

    payment = shop.buy(person)

    assert payment["gateway_id"] == shop.gateways["pushinpay"]
    (decision,) = line.rows("select * from decision")
    verdicts = {one["gateway"]: one["verdict"] for one in decision["candidates"]}
    assert verdicts == {shop.gateways["woovi"]: "lacks_payer", shop.gateways["pushinpay"]: "fit"}
    assert not asked


def test_a_gateway_that_wants_the_payer_is_asked_once_the_buyer_told(line: Line, asked: list[Payer]) -> None:
    shop = open_shop(line, gateways=("woovi", "pushinpay"))
    person = line.world.telegram.person()
    shop.visit(person)
    with line.seller(shop.seller_id):
        (row,) = db.session.query(Customer).all()
        payers.learn(row, PayerField.NAME, "Maria da Silva")
        payers.learn(row, PayerField.DOCUMENT, "52998224725")
        db.session.commit()

    tap(shop, person, "Curso Completo")

    assert shop.payments()[-1]["gateway_id"] == shop.gateways["woovi"]


@pytest.mark.parametrize("way_out", ["button", "/start"])
def test_a_buyer_may_leave_a_question_unanswered(line: Line, asked: list[Payer], way_out: str) -> None:
    shop = open_shop(line, gateways=("woovi",))
    person = line.world.telegram.person()
    shop.visit(person)
    tap(shop, person, "Curso Completo")

    if way_out == "button":
        tap(shop, person, texts.NEVER_MIND)
    else:
        say(shop, person, way_out)

    assert "Curso Completo" in str(person.last(shop.token).buttons)
    assert "nome" not in say(shop, person, "Maria da Silva").lower()
    assert not shop.payments()


def test_an_open_code_is_shown_again_without_a_question(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = open_shop(line, gateways=("woovi",))
    person = line.world.telegram.person()
    shop.buy(person)
    monkeypatch.setattr(type(gateways.get("woovi")), "payer_needs", frozenset({PayerField.DOCUMENT}))

    tap(shop, person, "Curso Completo")

    assert person.last(shop.token).marked("code")


def test_the_conversations_questions_answer_commands_all_the_same(line: Line, asked: list[Payer]) -> None:
    shop = open_shop(line, gateways=("woovi",))
    person = line.world.telegram.person()
    shop.visit(person)
    tap(shop, person, "Curso Completo")

    assert "Privacidade" in say(shop, person, "/privacy")
    assert "CPF ou CNPJ" in say(shop, person, "Maria da Silva")


def test_what_no_key_opens_any_more_is_as_if_it_had_not_been_told(line: Line, asked: list[Payer]) -> None:
    shop = open_shop(line, gateways=("woovi", "pushinpay"))
    person = line.world.telegram.person()
    shop.visit(person)
    line.change("update customer set profile_sealed = '\\x00'")

    payment = shop.buy(person)

    assert payment["gateway_id"] == shop.gateways["pushinpay"]
    assert not line.rows("select 1 from inbox where state <> 'done'")


# Reading ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (CPF, "52998224725"),
        (" 529 982 247 25 ", "52998224725"),
        ("11.222.333/0001-81", "11222333000181"),
        ("12.abc.345/01DE-35", "12ABC34501DE35"),
    ],
)
def test_a_document_with_right_check_digits_is_read(words: str, read: str) -> None:
    assert payer.read(PayerField.DOCUMENT, words) == read


@pytest.mark.parametrize(
    "words",
    ["", "52998224726", "5299822472", "111.111.111-11", "00000000000000", "12ABC34501DE3A", "12ABC34501DE36", "٥٢٩٩٨٢٢٤٧٢٥", "meu cpf"],
)  # fmt: skip
def test_what_is_no_document_is_not_taken(words: str) -> None:
    assert payer.read(PayerField.DOCUMENT, words) is None


def test_each_digit_of_a_document_counts() -> None:
    right = "52998224725"
    wrong = [right[:place] + str((int(right[place]) + 1) % 10) + right[place + 1 :] for place in range(11)]

    assert [payer.read(PayerField.DOCUMENT, one) for one in wrong] == [None] * 11


@pytest.mark.parametrize(
    ("field", "words", "read"),
    [
        (PayerField.NAME, "  Maria   da Silva ", "Maria da Silva"),
        (PayerField.NAME, "Ana D'Ávila-Souza", "Ana D'Ávila-Souza"),
        (PayerField.NAME, "Maria", None),
        (PayerField.NAME, "Maria 123", None),
        (PayerField.NAME, "x " * 60, None),
        (PayerField.EMAIL, " Maria@Exemplo.com.br ", "maria@exemplo.com.br"),
        (PayerField.EMAIL, "maria@exemplo", None),
        (PayerField.EMAIL, "a" * 64, None),
        (PayerField.PHONE, "(11) 91234-5678", "+5511912345678"),
        (PayerField.PHONE, "91234-5678", None),
        (PayerField.PHONE, "a" * 64, None),
    ],
)
def test_other_answers_are_read_as_they_are_meant(field: PayerField, words: str, read: str | None) -> None:
    assert payer.read(field, words) == read
