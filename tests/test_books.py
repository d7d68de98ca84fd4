"""The books: each charge's money, fee and return once, whatever is told how often, and never changed afterwards."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from io import StringIO
from itertools import permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from bot_manager import sales, sellers
from bot_manager.payments import ledger
from gateways.base import ChargeState, Status
from models import Bot, Gateway, Offer, Payment, db
from tests.line import Line
from tests.panel_world import Cast, World, customer, sale
from tests.shops import Shop, open_shop

CENTS = 4990


def entries(line: Line) -> list[tuple[str, int]]:
    rows = line.rows("select kind, amount_cents from ledger_entry order by id")
    return [(row["kind"], row["amount_cents"]) for row in rows]


@pytest.fixture
def shop(line: Line) -> Shop:
    """A shop with one open charge."""
    shop = open_shop(line)
    (payment,) = shop.open_sales(1, CENTS)
    shop.charge(payment)
    return shop


def tell(shop: Shop, status: Status, **more: object) -> sales.Outcome:
    """The provider's word about the last charge."""
    (row,) = shop.line.rows(
        "select a.provider_id, a.gateway_id, p.webhook_token from charge_attempt a"
        " join payment p on p.id = a.payment_id order by a.id desc limit 1"
    )
    with shop.line.seller(shop.seller_id):
        found = sales.match(row["gateway_id"], row["webhook_token"], row["provider_id"], None)
        assert found is not None
        state = ChargeState(status, row["provider_id"], CENTS, **more)  # type: ignore[arg-type]
        outcome = sales.settle(row["gateway_id"], found, state)
        db.session.commit()
    return outcome


def test_a_paid_charge_is_in_the_books_once_however_often_it_is_told(line: Line, shop: Shop) -> None:
    for _ in range(3):
        tell(shop, Status.PAID)

    assert entries(line) == [("sale", CENTS)]


@pytest.mark.parametrize(
    ("fixed", "points", "fee"), [(35, None, 35), (None, 99, 49), (35, 99, 84), (0, 0, 0), (None, None, None)]
)
def test_the_fee_is_that_of_the_accounts_tariff(
    line: Line, shop: Shop, fixed: int | None, points: int | None, fee: int | None
) -> None:
    line.change("update gateway set fee_fixed_cents = :fixed, fee_basis_points = :points", fixed=fixed, points=points)

    tell(shop, Status.PAID)

    assert entries(line) == [("sale", CENTS), *([("fee", -fee)] if fee is not None else [])]


def test_what_the_provider_says_of_its_fee_goes_before_the_tariff(line: Line, shop: Shop) -> None:
    line.change("update gateway set fee_fixed_cents = 35")

    tell(shop, Status.PAID, fee_cents=80)

    assert entries(line) == [("sale", CENTS), ("fee", -80)]


def test_money_back_in_parts_adds_up_and_the_sale_stands(line: Line, shop: Shop) -> None:
    tell(shop, Status.PAID)
    for total in (1000, 1000, 2500):
        tell(shop, Status.PAID, refunded_cents=total)

    assert entries(line) == [("sale", CENTS), ("refund", -1000), ("refund", -1500)]
    assert shop.payments()[-1]["status"] == "paid"


def test_a_whole_refund_takes_what_the_parts_have_left(line: Line, shop: Shop) -> None:
    tell(shop, Status.PAID, refunded_cents=1000)
    tell(shop, Status.REFUNDED)
    tell(shop, Status.REFUNDED)

    assert entries(line) == [("sale", CENTS), ("refund", -1000), ("refund", -3990)]
    assert shop.payments()[-1]["status"] == "refunded"


WORDS = (
    (Status.PAID, {}),
    (Status.PAID, {"refunded_cents": 1000}),
    (Status.PAID, {"refunded_cents": 2500}),
    (Status.PENDING, {}),
    (Status.EXPIRED, {}),
    (Status.PAID, {}),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.sampled_from(list(permutations(range(len(WORDS))))))
def test_the_same_words_in_any_order_end_in_the_same_books(line: Line, shop: Shop, order: tuple[int, ...]) -> None:
    (payment,) = shop.open_sales(1, CENTS)
    shop.charge(payment)
    for place in order:
        tell(shop, WORDS[place][0], **WORDS[place][1])

    (sums,) = line.rows(
        "select sum(amount_cents) filter (where kind = 'sale') as came,"
        " sum(amount_cents) filter (where kind = 'refund') as back from ledger_entry where payment_id = :id",
        id=payment,
    )
    assert (sums["came"], sums["back"]) == (CENTS, -2500)


def test_a_test_sale_is_in_no_books(line: Line) -> None:
    shop = open_shop(line, test=True)
    (payment,) = shop.open_sales(1, CENTS, test=True)
    shop.charge(payment)
    with line.seller(shop.seller_id):
        row = db.session.get_one(Payment, payment)
        assert sales.approve_test_sale(row) is sales.Outcome.PAID
        db.session.commit()

    assert entries(line) == []


@pytest.mark.parametrize("statement", ["update ledger_entry set amount_cents = 0", "delete from ledger_entry"])
def test_an_entry_is_never_changed_not_even_by_the_tables_owner(
    line: Line, shop: Shop, owner: Engine, statement: str
) -> None:
    tell(shop, Status.PAID)

    with pytest.raises(DBAPIError, match="never changed"), owner.begin() as connection:
        connection.execute(text(statement))


def test_two_codes_of_one_sale_paid_are_two_entries(line: Line, shop: Shop) -> None:
    tell(shop, Status.PAID)
    line.change(
        "insert into charge_attempt (seller_id, payment_id, gateway_id, provider_id, state)"
        " select seller_id, payment_id, gateway_id, 'second', 'made' from charge_attempt"
    )

    assert tell(shop, Status.PAID) is sales.Outcome.PAID_TWICE
    assert entries(line) == [("sale", CENTS), ("sale", CENTS)]


def test_what_an_older_program_settled_is_booked_by_the_clock(line: Line, shop: Shop) -> None:
    """It knows neither the books nor which state they know of."""
    tell(shop, Status.PAID)
    tell(shop, Status.REFUNDED)
    line.change("set local session_replication_role = replica; delete from ledger_entry")
    line.change("update charge_attempt set booked = null")

    with line._owner.begin() as connection:
        ledger.catch_up(connection)
    line.pass_time(1)
    line.work()

    assert entries(line) == [("sale", CENTS), ("refund", -CENTS)]
    assert line.rows("select booked from charge_attempt") == [{"booked": "refunded"}]


# What the seller sees -----------------------------------------------------------------------------------------------


def test_the_page_and_the_file_say_the_same_to_the_cent(panel: World, cast: Cast) -> None:
    with panel.acting(cast.shop):
        gateway = Gateway(seller_id=cast.shop.id, name="=principal", kind="pushinpay", fee_fixed_cents=35)
        sellers.add_gateway(gateway, {})
        offer = db.session.get_one(Offer, cast.shop.offer_id)
        for _ in range(3):
            person = customer(db.session.get_one(Bot, cast.shop.bot_id), "Lívia")
            sale(person, offer, gateway, "paid", datetime.now(UTC))
        gross = 3 * offer.price_cents
        db.session.commit()
    ana = panel.client(cast.ana)

    page = ana.get(f"/loja/{cast.shop.id}/financeiro?dias=7").text
    lines = list(
        csv.reader(StringIO(ana.get(f"/loja/{cast.shop.id}/financeiro/livro.csv?dias=7").text[1:]), delimiter=";")
    )

    assert all(part in page for part in (shown(gross), f"−{shown(105)}", shown(gross - 105)))
    cents = [round(float(line[-1].replace(",", ".")) * 100) for line in lines[1:]]
    assert (len(cents), sum(cents)) == (6, gross - 105)
    assert {line[2] for line in lines[1:]} == {"'=principal"}


@pytest.mark.parametrize("path", ["financeiro?dias=8", "financeiro/livro.csv?dias=-1"])
def test_a_period_that_is_none_is_not_found(panel: World, cast: Cast, path: str) -> None:
    assert panel.client(cast.ana).get(f"/loja/{cast.shop.id}/{path}").status_code == 404


def shown(cents: int) -> str:
    return f"R$\u00a0{cents // 100},{cents % 100:02d}"
