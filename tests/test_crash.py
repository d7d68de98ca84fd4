"""kill -9, anywhere and at any moment: nothing that was acknowledged is lost, and nothing happens twice.

The world's companies try again as the real ones do: Telegram until an update is taken, Woovi eight times, PushinPay
three times and never again; a sale whose notices were all lost is found by our own look at open charges, for which
the clock is set forward here.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
import requests
from aiohttp import web
from sqlalchemy import create_engine

from bot_manager.ops.checker import Finding, check
from bot_manager.ops.postgres import answers
from bot_manager.settings import engine_url
from tests import ledger
from tests.product import Product
from tests.shops import Shop, open_shop
from tests.until import until
from tests.world import Delay, Fault, Hold, World
from tests.world.faults import Work
from tests.world.server import Fake
from tests.world.telegram import Person

pytestmark = pytest.mark.slow

PATIENCE_S = 180.0
SALES = 20
KILLS = 14
SEED = int(os.environ.get("SEED", "1"))  # another one, another story


class LateAnswer(Fault):
    """The work is done at once and answered late: whoever is killed meanwhile never learns that it was done."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def play(self, request: web.Request, work: Work) -> web.StreamResponse:
        reply = await work()
        await asyncio.sleep(self.seconds)
        return reply.response()


@pytest.fixture
def product(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Product]:
    with World() as world, Product(world, tmp_path, **getattr(request, "param", {})) as whole:
        whole.start()
        yield whole


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One for several tests: they leave it whole."""
    with World() as world, Product(world, tmp_path_factory.mktemp("lasting")) as whole:
        whole.start()
        yield whole


# At any moment ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", [{}, {"PUBLIC_URL": ""}], ids=["pushed", "polled"], indirect=True)
def test_twenty_sales_at_once_come_out_whatever_is_killed(product: Product) -> None:
    chance = random.Random(SEED)
    shops = [open_shop(product, gateways=("pushinpay", "woovi")) for _ in range(2)]
    product.change("update gateway set priority = 1")
    _slow_down(product.world)
    over = Event()
    with ThreadPoolExecutor(SALES) as crowd:
        sales = [crowd.submit(_come_and_buy, chance.choice(shops), random.Random(n), over) for n in range(SALES)]
        try:
            for victim in chance.choices(VICTIMS, k=KILLS):
                over.wait(chance.uniform(0.2, 4))
                victim(product, chance)
            product.wait_healthy(60)
            _in_time(product, lambda: all(sale.done() for sale in sales), 150)
        finally:
            over.set()
    for sale in sales:
        sale.result()
    assert_it_all_came_out(product, SALES)


def _kill(name: str) -> Callable[[Product, random.Random], object]:
    return lambda product, _: product.kill(name)


def _kill_a_child(product: Product, chance: random.Random) -> None:
    """One of gunicorn's workers, or one of PostgreSQL's backends: their leaders live on."""
    victims = [*product.web_children(), *product.server._processes()]
    os.kill(chance.choice(victims), signal.SIGKILL)


VICTIMS = (_kill("web"), _kill("worker"), _kill("worker"), _kill("postgres"), _kill_a_child)


def _slow_down(world: World) -> None:
    """Everybody takes their time, so that kills hit calls under way."""
    world.pushinpay.fail("POST /api/pix/cashIn", how=Delay(0.5), times=None)
    world.pushinpay.fail("GET /api/transactions", how=Delay(0.3), times=None)
    world.woovi.fail("POST /api/v1/charge", how=LateAnswer(0.5), times=None)
    world.telegram.fail("/send", how=LateAnswer(0.4), times=None)
    world.meta.fail("/events", how=LateAnswer(0.4), times=None)


def _come_and_buy(shop: Shop, chance: random.Random, over: Event) -> None:
    over.wait(chance.uniform(0, 25))
    person = shop.line.world.telegram.person()
    person.start(shop.token, until(lambda: _click(shop), PATIENCE_S))
    _buy(shop, person, notices=chance.randint(1, 3))


def _click(shop: Shop) -> str:
    """The tracking token; nothing while the shop is away, and the visitor tries again."""
    try:
        return shop.click()
    except (requests.RequestException, AssertionError):
        return ""


def _buy(shop: Shop, person: Person, notices: int = 1) -> None:
    """From the menu to the delivery."""
    person.wait_button(shop.token, "Curso Completo", PATIENCE_S)
    person.tap(shop.token, "Curso Completo")
    code = person.wait_button(shop.token, "Copiar", PATIENCE_S).copy_text
    _pay(shop.line.world, code, notices)
    person.wait_text(shop.token, "https://example.com/curso", PATIENCE_S)


def _pay(world: World, code: str | None, notices: int) -> None:
    for bank in (world.pushinpay, world.woovi):
        for charge in [charge for charge in bank.charges.values() if charge.pix_code == code]:
            bank.pay(charge.id, notices=notices)


def assert_it_all_came_out(product: Product, sales: int) -> None:
    """All sales are paid, delivered and reported once, nothing is left under way, and all books agree."""
    world, rows = product.world, product.rows
    _come_to_rest(product)
    assert rows("select count(*) as n from payment where status = 'paid'") == [{"n": sales}]
    assert ledger.differences(world, rows) == []
    assert ledger.unkept(world, rows) == []
    # What was sent and not known to be sent is sent again: each copy has a send that was cut off before it.
    again = "select coalesce(sum(attempts - 1), 0) as n from message where delivery_id is not null"
    assert ledger.repeated(world, rows) <= rows(again)[0]["n"]
    # A poll that begins ends the one that a killed worker left open; that one is refused.
    assert [refusal for refusal in world.refusals if refusal.status != 409] == []


def _come_to_rest(product: Product) -> None:
    """Until the checker finds nothing, not even what is under way."""
    last: list[Finding] = []

    def at_rest() -> bool:
        last[:] = _findings(product)
        return not last

    with suppress(AssertionError):
        _in_time(product, at_rest, 30)
    assert last == []


def _in_time(product: Product, condition: Callable[[], bool], step: float) -> None:
    """Waits for it, with the clock set forward by `step` seconds every three."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        with suppress(AssertionError):
            until(condition, 3)
            return
        product.pass_time(step)


def _findings(product: Product) -> list[Finding]:
    engine = create_engine(engine_url(product.urls.owner))
    try:
        with engine.connect() as connection:
            return check(connection, timedelta(0))
    finally:
        engine.dispose()


# At each call to another company ----------------------------------------------------------------------------------

CALLS = {
    "the charge is asked for": ("pushinpay", "POST /api/pix/cashIn", False),
    "the charge is made": ("pushinpay", "POST /api/pix/cashIn", True),
    "the code is shown": ("telegram", "/sendPhoto", True),
    "the payment is confirmed": ("pushinpay", "GET /api/transactions", True),
    "what was bought is sent": ("telegram", "/sendMessage", True),
    "the purchase is reported": ("meta", "/events", True),
}


@pytest.mark.parametrize("victim", ["worker", "postgres"])
@pytest.mark.parametrize("call", CALLS)
def test_a_sale_comes_out_that_was_cut_off_when(lasting: Product, call: str, victim: str) -> None:
    """The company has done its part, or not even begun; the answer comes when nobody is there to hear it."""
    product, (company, path, done) = lasting, CALLS[call]
    shop, fake = open_shop(product), getattr(product.world, company)
    person = product.world.telegram.person()
    person.start(shop.token, shop.click())
    person.wait_button(shop.token, "Curso Completo", PATIENCE_S)
    hold = Hold(after=done)
    with _held(fake, path, hold), ThreadPoolExecutor(1) as aside:
        sale = aside.submit(_buy, shop, person)
        assert hold.reached.wait(20)
        product.kill(victim)
        hold.release()
        product.wait_healthy(60)
        _in_time(product, sale.done, 10)
        sale.result()
    assert_it_all_came_out(product, len(product.world.paid()))


@contextmanager
def _held(fake: Fake, path: str, hold: Hold) -> Iterator[None]:
    """The next call that matches waits at this hold."""
    fake.fail(path, how=hold)
    try:
        yield
    finally:
        hold.release()
        fake.heal()


# How long it takes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("another_is_alive", [True, False])
def test_the_jobs_of_a_killed_worker_go_on_within_ten_seconds(lasting: Product, another_is_alive: bool) -> None:
    product, hold = lasting, Hold()
    shop, person = open_shop(product), product.world.telegram.person()
    person.start(shop.token, shop.click())
    person.wait_button(shop.token, "Curso Completo", PATIENCE_S)
    with _another_worker(product) if another_is_alive else nullcontext() as other:
        with _held(product.world.pushinpay, "/pix/cashIn", hold):
            with _paused(other):  # else it may be the one that takes the job
                person.tap(shop.token, "Curso Completo")
                assert hold.reached.wait(20)
            product.kill("worker")
            killed = time.monotonic()
            until(lambda: product.rows(STARTED)[0]["n"] > 1, 20)
            took = time.monotonic() - killed
        product.wait_healthy()
    assert took < 10
    _come_to_rest(product)


@contextmanager
def _another_worker(product: Product) -> Iterator[int]:
    known = product.rows("select id from procrastinate_workers")
    other = product.spawn("worker")
    until(lambda: len(product.rows("select id from procrastinate_workers")) > len(known), 60)
    yield other.pid
    product.end(other)


@contextmanager
def _paused(pid: int | None) -> Iterator[None]:
    if pid:
        os.kill(pid, signal.SIGSTOP)
    yield
    if pid:
        os.kill(pid, signal.SIGCONT)


STARTED = """
    select count(*) as n from procrastinate_events where type = 'started'
    and job_id = (select max(id) from procrastinate_jobs where task_name = 'charge')"""


def test_a_killed_database_is_back_within_seconds(lasting: Product) -> None:
    lasting.kill("postgres")
    killed = time.monotonic()
    until(lambda: answers(lasting.urls.owner), 20)
    assert time.monotonic() - killed < 10
    lasting.wait_healthy()


def test_nobody_is_sent_away_once_the_database_is_back(lasting: Product) -> None:
    shop = open_shop(lasting)
    assert all(shop.click() for _ in range(20))  # every process has connections now
    lasting.kill("postgres")
    lasting.wait_healthy()
    assert all(shop.click() for _ in range(20))


def test_a_worker_that_was_paused_and_thought_dead_does_nothing_twice(lasting: Product) -> None:
    product, hold = lasting, Hold(after=True)
    shop, person = open_shop(product), product.world.telegram.person()
    person.start(shop.token, shop.click())
    person.wait_button(shop.token, "Curso Completo", PATIENCE_S)
    paused, [row] = product.pids()["worker"], product.rows("select id from procrastinate_workers")
    before = ledger.repeated(product.world, product.rows)
    with _held(product.world.telegram, "/sendMessage", hold), ThreadPoolExecutor(1) as aside:
        sale = aside.submit(_buy, shop, person)
        assert hold.reached.wait(20)
        os.kill(paused, signal.SIGSTOP)
        with _another_worker(product):
            hold.release()
            until(lambda: not product.rows("select 1 from procrastinate_workers where id = :id", **row), 20)
            os.kill(paused, signal.SIGCONT)
            sale.result()
    assert_it_all_came_out(product, len(product.world.paid()))
    assert ledger.repeated(product.world, product.rows) == before


# The supervisor itself --------------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_killed_run_and_the_next_one_goes_on_with_its_sales(product: Product) -> None:
    shop = open_shop(product, gateways=("pushinpay", "woovi"))
    people = [product.world.telegram.person() for _ in range(4)]
    for person in people:
        person.start(shop.token, shop.click())
    with ThreadPoolExecutor(4) as crowd:
        sales = [crowd.submit(_buy, shop, person, 2) for person in people]
        people[0].wait_button(shop.token, "Copiar")
        product.kill("run")
        until(lambda: not product.left(), 40)
        product.start()
        _in_time(product, lambda: all(sale.done() for sale in sales), 150)
    assert_it_all_came_out(product, len(people))


def test_a_run_that_is_stopped_and_started_in_the_middle_of_sales_says_nothing_twice(product: Product) -> None:
    shop = open_shop(product, gateways=("pushinpay", "woovi"))
    _slow_down(product.world)
    people = [product.world.telegram.person() for _ in range(6)]
    for person in people:
        person.start(shop.token, shop.click())
    with ThreadPoolExecutor(len(people)) as crowd:
        sales = [crowd.submit(_buy, shop, person, 2) for person in people]
        people[0].wait_text(shop.token, "https://example.com/curso", PATIENCE_S)
        product.stop()
        product.start()
        _in_time(product, lambda: all(sale.done() for sale in sales), 150)
    assert_it_all_came_out(product, len(people))
    assert product.rows("select 1 from message where attempts > 1") == []


def test_a_run_that_is_started_again_at_once_ends_what_was_left(product: Product) -> None:
    shop, person = open_shop(product), product.world.telegram.person()
    person.start(shop.token, shop.click())
    left = product.pids()
    product.kill("run")
    product.start()
    assert not set(left.values()) & set(product.pids().values())
    _buy(shop, person)
    assert_it_all_came_out(product, 1)
