"""The database hangs, restarts, loses its clients or has no room left: who asks is told to come back, nothing that was
acknowledged is lost, and all goes on by itself once it can."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import requests

from tests.crashing.aftermath import assert_it_all_came_out, buy, in_time
from tests.product import Product
from tests.shops import Shop, open_shop
from tests.until import until
from tests.world import World

pytestmark = pytest.mark.slow

CROWD = 60  # more than the threads that there are
ANSWERED_S = 12.0  # promised: 5, and what a busy test machine adds


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One for several tests: they leave it whole."""
    with World() as world, Product(world, tmp_path_factory.mktemp("starved")) as whole:
        whole.start()
        yield whole


@pytest.fixture
def shop(product: Product) -> Shop:
    return open_shop(product, gateways=("pushinpay", "woovi"))


def knock(shop: Shop) -> tuple[int, float]:
    """What a visitor gets, a notice, or a monitor; and how long it takes. Without an answer in time: 0."""
    address = random.choice([f"/go/{shop.slug}", "/health", "/webhook/pushinpay/nobody", "/webhook/woovi/nobody"])
    method = "POST" if "webhook" in address else "GET"
    began = time.monotonic()
    try:
        answer = requests.request(
            method,
            f"{shop.line.url}{address}",
            data=b"{}" if method == "POST" else None,
            timeout=2 * ANSWERED_S,
            allow_redirects=False,
        )
    except requests.RequestException:
        return 0, time.monotonic() - began
    return answer.status_code, time.monotonic() - began


def knock_all(shop: Shop) -> tuple[Counter[int], float]:
    """A crowd's answers, and the longest wait."""
    with ThreadPoolExecutor(CROWD) as crowd:
        answers = list(crowd.map(lambda _: knock(shop), range(CROWD)))
    return Counter(status for status, _ in answers), max(seconds for _, seconds in answers)


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def sales_meanwhile(product: Product, shop: Shop, trouble: Callable[[], object], count: int = 4) -> None:
    """Sales are under way when trouble comes; they come out."""
    people = [product.world.telegram.person() for _ in range(count)]
    for person in people:
        person.start(shop.token, shop.click())
    with ThreadPoolExecutor(count) as crowd:
        sales = [crowd.submit(buy, shop, person, 2) for person in people]
        people[0].wait_button(shop.token, "Curso Completo", 30)
        trouble()
        product.wait_healthy(60)
        in_time(product, lambda: all(sale.done() for sale in sales), 30)
    for sale in sales:
        sale.result()
    assert_it_all_came_out(product, len(product.world.paid()))


def test_while_the_database_hangs_everybody_is_told_so_in_time_and_again(product: Product, shop: Shop) -> None:
    assert set(knock_all(shop)[0]) <= {200, 302, 404}
    with stopped(product.server._processes()):
        rounds = [knock_all(shop) for _ in range(2)]
    for statuses, longest in rounds:
        assert set(statuses) == {503}
        assert longest < ANSWERED_S
    product.wait_healthy()
    assert set(knock_all(shop)[0]) <= {200, 302, 404}  # no thread and no connection is stuck
    sales_meanwhile(product, shop, lambda: None, 1)


def test_sales_outlive_a_database_that_hangs_for_longer_than_anybody_waits(product: Product, shop: Shop) -> None:
    def hang() -> None:
        with stopped(product.server._processes()):
            time.sleep(12)  # the trouble itself: longer than any deadline of ours

    sales_meanwhile(product, shop, hang)


def test_sales_outlive_that_a_web_process_is_paused(product: Product, shop: Shop) -> None:
    def pause() -> None:
        with stopped(product.web_children()[:1]):
            time.sleep(4)  # what it had taken in waits as long

    sales_meanwhile(product, shop, pause)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_sales_outlive_a_restart_of_the_database(product: Product, shop: Shop, how: signal.Signals) -> None:
    def restart() -> None:
        old = product.server._postmaster() or 0
        os.kill(old, how)
        until(lambda: product.server._postmaster() not in (None, old), 30)

    sales_meanwhile(product, shop, restart)


def test_sales_outlive_that_all_connections_are_cut_again_and_again(product: Product, shop: Shop) -> None:
    def cut() -> None:
        for _ in range(5):
            product.change("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
            time.sleep(0.4)  # some of them are back by now

    sales_meanwhile(product, shop, cut)


def test_a_stranger_with_all_the_connections_is_a_503_until_they_leave(product: Product, shop: Shop) -> None:
    def crowd_out() -> None:
        with ExitStack() as strangers:
            _take_all(product, strangers)
            health = requests.get(f"{product.url}/health", timeout=10)
            assert (health.status_code, health.json()["status"]) == (503, "down")
            statuses, longest = knock_all(shop)
            assert set(statuses) == {503}
            assert longest < ANSWERED_S

    sales_meanwhile(product, shop, crowd_out)


def _take_all(product: Product, strangers: ExitStack) -> None:
    """Theirs is every connection that the application may have, ours included as they are cut."""

    def take() -> bool:
        """True when none was left to take."""
        try:
            strangers.enter_context(psycopg.connect(product.urls.app, application_name="stranger"))
        except psycopg.OperationalError:
            return True
        return False

    ours = "select count(*) as n from pg_stat_activity where usename = 'bot_manager' and application_name <> 'stranger'"
    cut = (
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where usename = 'bot_manager' and application_name <> 'stranger'"
    )
    while product.rows(ours)[0]["n"]:
        until(take)
        product.change(cut)
        for _ in range(20):
            take()


# No room left -----------------------------------------------------------------------------------------------------


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Product]:
    """One whose data has a small disk of its own."""
    if os.geteuid():
        pytest.skip("only root can mount a small disk")
    var = tmp_path / "var"
    var.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=755", "tmpfs", str(var)], check=True)
    try:
        with World() as world, Product(world, tmp_path) as whole:
            whole.start()
            yield whole
    finally:
        subprocess.run(["umount", "-l", str(var)], check=True)


def test_on_a_full_disk_nothing_is_acknowledged_and_with_room_all_goes_on(narrow: Product) -> None:
    product, shop = narrow, open_shop(narrow, gateways=("pushinpay", "woovi"))
    ballast = product.home / "var" / "ballast"

    def fill() -> None:
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(65536)):
                pass
        seen: Counter[str] = Counter()

        def refused() -> bool:
            seen[str(knock(shop)[0])] += 1
            with suppress(requests.RequestException, ValueError):
                seen[requests.get(f"{product.url}/health", timeout=10).json()["status"]] += 1
            return seen["503"] > 20 and seen["degraded"] + seen["down"] > 5

        until(refused, 60)
        ballast.unlink()

    sales_meanwhile(product, shop, fill)
