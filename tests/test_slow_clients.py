"""Five hundred clients that say almost nothing, at the real product, while another seller's notices go on."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.product import Product
from tests.shops import Shop, open_shop
from tests.world import World

pytestmark = pytest.mark.slow

CLIENTS = 500
ROUTES = (
    "/login",
    "/webhook/woovi/made-up",
    "/tg/made-up",
    "/go/promo1",
    "/loja/1/",
    "/convite/made-up",
    "/csp",
    "/health",
)
SETTLED_S = 1.0  # from the notice sent to its answer, the worst one aside; alone it takes some hundredths
WORST_S = 5.0  # a machine's hiccup is not a queue of slow clients
SALES = 12


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    with World() as world, Product(world, tmp_path) as started:
        started.start()
        yield started


def _slowly(stack: ExitStack, port: int, number: int) -> socket.socket:
    """Half of them never end their headers, half their body."""
    client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=15))
    route = ROUTES[number % len(ROUTES)]
    head = f"POST {route} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    client.sendall((head + ("X-Slow: " if number % 2 else "Content-Length: 900\r\n\r\na=")).encode())
    return client


def _buy(shop: Shop, count: int) -> None:
    for _ in range(count):
        person = shop.line.world.telegram.person()
        person.start(shop.token, shop.click())
        person.tap(shop.token, person.wait_button(shop.token, "Curso Completo"))
    shop.line.world.woovi.wait_for(
        lambda: sum(row["status"] == "pending" for row in shop.payments()) == count, timeout=60
    )


def _warm_up(shop: Shop) -> None:
    """Open sales to settle, and both web processes past their first requests."""
    _buy(shop, SALES + 4)
    for _ in range(4):
        requests.get(f"{shop.line.url}/login", timeout=30)
        _settle_each(shop, 1)


def _fit(times: list[float]) -> bool:
    *most, worst = sorted(times)
    return len(times) == SALES and most[-1] < SETTLED_S and worst < WORST_S


def _settle_each(shop: Shop, most: int = SALES) -> list[float]:
    """Pays what is open, one after the other; answers how long each notice took to be settled and answered."""
    woovi, times = shop.line.world.woovi, []
    for charge in [charge for charge in woovi.charges.values() if not charge.paid][:most]:
        began = time.monotonic()
        woovi.pay(charge)
        woovi.wait_delivered(timeout=20)
        times.append(time.monotonic() - began)
    return times


def test_slow_clients_do_not_slow_down_another_sellers_notices(product: Product) -> None:
    shop = open_shop(product, gateways=("woovi",))
    _warm_up(shop)
    stop = threading.Event()
    with ExitStack() as stack:
        slow = [_slowly(stack, product.port, number) for number in range(CLIENTS)]

        def keep_them() -> None:
            """Whoever was sent away comes back."""
            while not stop.wait(0.5):
                for number, client in enumerate(slow):
                    try:
                        client.sendall(b"x")
                    except OSError:
                        slow[number] = _slowly(stack, product.port, number)

        keeper = threading.Thread(target=keep_them)
        keeper.start()
        try:
            times = _settle_each(shop)
        finally:
            stop.set()
            keeper.join()

    assert _fit(times), sorted(times)
    assert {row["status"] for row in shop.payments()} == {"paid"}


def test_a_flood_of_logins_and_guesses_does_not_stall_another_sellers_notices(product: Product) -> None:
    """Sixteen that try passwords, and four that try notice addresses, as fast as they are answered."""
    shop = open_shop(product, gateways=("woovi",))
    _warm_up(shop)
    stop, codes = threading.Event(), []

    def try_passwords(number: int) -> None:
        browser = requests.Session()
        token = browser.get(f"{product.url}/login", timeout=30).text.split('name="csrf_token" value="')[1].split('"')[0]
        tries = 0
        while not stop.is_set():
            tries += 1
            form = {"csrf_token": token, "email": f"nobody{number}.{tries}@example.com", "password": "wrong" * 4}
            codes.append(browser.post(f"{product.url}/login", form, timeout=30).status_code)

    def try_addresses(number: int) -> None:
        while not stop.is_set():
            codes.append(requests.post(f"{product.url}/webhook/woovi/{number}", json.dumps({}), timeout=30).status_code)

    guessers = [threading.Thread(target=try_passwords, args=(number,)) for number in range(16)]
    guessers += [threading.Thread(target=try_addresses, args=(number,)) for number in range(4)]
    for guesser in guessers:
        guesser.start()
    try:
        times = _settle_each(shop)
    finally:
        stop.set()
        for guesser in guessers:
            guesser.join()

    assert _fit(times), sorted(times)
    assert set(codes) <= {200, 404, 429, 503}
    assert 429 in codes
