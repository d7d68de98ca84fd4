"""What kills its process each time, among many good ones: nobody else waits for it, and it comes to an end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from bot_manager.bots.inbox import MOST_ATTEMPTS as MOST_EVENT_ATTEMPTS
from bot_manager.jobs.queue import MOST_ATTEMPTS
from tests import ledger
from tests.crashing.aftermath import PATIENCE_S, buy, findings, in_time
from tests.crashing.mortal import BEAT_S, Mortal
from tests.shops import Shop, open_shop
from tests.until import until
from tests.world import World
from tests.world.telegram import Person

pytestmark = pytest.mark.slow

POISON = "veneno"
GOOD = 60  # chats, each of some updates and jobs
WAITED_S = 10.0  # promised: some seconds, and what a busy test machine adds
CLAIM_S = 25.0  # who was just being sent something waits until the dead one's claim is old


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    with World() as world, Mortal(world, tmp_path_factory.mktemp("poison")) as whole:
        whole.start()
        yield whole


def alone(product: Mortal) -> bool:
    """Whether a job has to run alone; the dead are known to be dead at once."""
    product.bury()
    return bool(product.rows("select 1 from procrastinate_jobs where queue_name = 'alone' and status = 'todo'"))


def greet(shop: Shop, person: Person) -> float:
    """Seconds from a customer's word to the bot's."""
    began = time.monotonic()
    person.start(shop.token)
    person.wait_button(shop.token, "Curso Completo", PATIENCE_S)
    return time.monotonic() - began


def test_an_update_that_kills_each_time_keeps_nobody_waiting_and_is_given_up(product: Mortal) -> None:
    shop = open_shop(product)
    eve, *others = [product.world.telegram.person() for _ in range(GOOD + 1)]
    greet(shop, eve)
    with product.dies_when("an event is to be taken up", victim=f"always {POISON}"):
        eve.say(shop.token, POISON)
        until(lambda: product.deaths("an event is to be taken up"))
        with ThreadPoolExecutor(8) as crowd:
            waits = sorted(crowd.map(lambda person: greet(shop, person), others))
        assert waits[len(waits) // 2] < WAITED_S
        assert waits[-1] < WAITED_S + CLAIM_S

        in_time(product, lambda: alone(product), 31, BEAT_S)
        product.change("update inbox set attempts = :n where state = 'new'", n=MOST_EVENT_ATTEMPTS - 2)

        def given_up() -> bool:
            product.bury()
            return bool(product.rows("select 1 from inbox where state = 'dead' and attempts > 1"))

        in_time(product, given_up, 31, BEAT_S)
        eve.start(shop.token)
        buy(shop, eve)  # the rest of that chat goes on
    product.wait_healthy()
    in_time(product, lambda: not findings(product), 30)


def test_a_job_that_kills_each_time_keeps_nobody_waiting_and_becomes_a_dead_letter(product: Mortal) -> None:
    shop = open_shop(product)
    eve, *others = [product.world.telegram.person() for _ in range(GOOD + 1)]
    greet(shop, eve)
    [customer] = product.rows("select id from customer where chat_id = :chat", chat=str(eve.id))
    point = "a message is to be sent"
    with product.dies_when(point, victim=f"always ({customer['id']},)"):
        eve.say(shop.token, "oi")
        until(lambda: product.deaths(point))
        with ThreadPoolExecutor(8) as crowd:
            waits = sorted(crowd.map(lambda person: greet(shop, person), others))
        assert waits[len(waits) // 2] < WAITED_S
        assert waits[-1] < WAITED_S + CLAIM_S

        in_time(product, lambda: alone(product), 31, BEAT_S)
        product.change("update procrastinate_jobs set attempts = :n where queue_name = 'alone'", n=MOST_ATTEMPTS - 1)

        def ended() -> bool:
            product.bury()
            return bool(product.rows("select 1 from procrastinate_jobs where status = 'failed'"))

        in_time(product, ended, 61, BEAT_S)
    [dead] = product.rows("select task_name, args from procrastinate_jobs where status = 'failed'")
    assert (dead["task_name"], dead["args"]["customer"]) == ("send", customer["id"])
    assert product.deaths(point) <= 11


def test_a_notice_that_kills_each_time_holds_up_no_other_and_is_not_acknowledged(product: Mortal) -> None:
    shop = open_shop(product, gateways=("woovi",))
    people = [product.world.telegram.person() for _ in range(8)]
    for person in people:
        person.start(shop.token, shop.click())
    open_shop(product, gateways=("woovi",))  # whose notices are the poison
    address = product.world.woovi.webhooks[-1].url
    victim = f"always {address.rpartition('/')[2]}"
    with ThreadPoolExecutor(8) as crowd, product.dies_when("a notice has come", victim=victim):
        sales = [crowd.submit(buy, shop, person, 2) for person in people]
        for _ in range(8):  # as often as the provider tries
            with pytest.raises(requests.ConnectionError):
                requests.post(address, data=b"{}", timeout=10)
        in_time(product, lambda: all(sale.done() for sale in sales), 10)
        for sale in sales:
            sale.result()
    assert ledger.unkept(product.world, product.rows) == []
    assert ledger.differences(product.world, product.rows) == []
    product.wait_healthy()
