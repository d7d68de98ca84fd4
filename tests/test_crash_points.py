"""A process dies at a named point, or the database under it: the sale comes out as if nothing had been.

The points are in `tests/crashing/points.py`. Sales follow one another in one shop of the product; each ends with the
checker and the books of the bank, the chats and the ads account.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.crashing.aftermath import PATIENCE_S, assert_it_all_came_out, buy, in_time
from tests.crashing.mortal import BEAT_S, Mortal
from tests.crashing.points import CLOCK, STARTS, WEB, WORKER
from tests.product import Product
from tests.shops import Shop, open_shop
from tests.until import until
from tests.world import World

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    """One for all: each test leaves it whole."""
    with World() as world, Mortal(world, tmp_path_factory.mktemp("mortal")) as whole:
        whole.start()
        yield whole


def sell(product: Mortal, sale: Future[None], *points: str) -> None:
    """Waits for the end of the sale and for the points, with the clock hurried, and for all that hangs on it."""

    def done() -> bool:
        product.bury()
        return sale.done() and all(map(product.reached, points))

    in_time(product, done, 31, BEAT_S)
    sale.result()
    assert_it_all_came_out(product, len(product.world.paid()))


def shop_with_a_group(product: Product, gateway: str) -> Shop:
    shop = open_shop(product, gateways=(gateway,))
    bot = product.world.telegram.bots[shop.token]
    group = product.world.telegram.group("Alunos", admins=[bot])
    product.change(
        "update offer set delivers = delivers || jsonb_build_array(jsonb_build_object("
        "'kind', 'group', 'chat_id', cast(:chat as bigint), 'days', null)) where seller_id = :seller",
        chat=group.id,
        seller=shop.seller_id,
    )
    return shop


def visit_and_buy(shop: Shop) -> None:
    person = shop.line.world.telegram.person()
    person.start(shop.token, until(lambda: _click(shop), PATIENCE_S))
    buy(shop, person)


def _click(shop: Shop) -> str:
    """The tracking token; nothing while the shop is away, and the visitor tries again."""
    try:
        return shop.click()
    except (requests.RequestException, AssertionError):
        return ""


@pytest.mark.parametrize("victim", ["self", "postgres"])
@pytest.mark.parametrize("point", [*WEB, *WORKER])
def test_a_sale_comes_out_although_a_process_died_when(product: Mortal, point: str, victim: str) -> None:
    shop = shop_with_a_group(product, "woovi" if point in WEB else "pushinpay")
    with ThreadPoolExecutor(1) as aside, product.dies_when(point, victim=victim):
        sale = aside.submit(visit_and_buy, shop)
        sell(product, sale)
    product.wait_healthy(60)


@pytest.mark.parametrize("victim", ["self", "postgres"])
@pytest.mark.parametrize("point", CLOCK)
def test_a_sale_comes_out_although_the_clock_died_when(product: Mortal, point: str, victim: str) -> None:
    """Timers fall due while a worker dies with its jobs: both ticks have something to do, and one does not end it."""
    shop = shop_with_a_group(product, "pushinpay")
    with ThreadPoolExecutor(1) as aside, product.dies_when(point, "an event is claimed, not sent", victim="self"):
        (product.armed / point).write_text({"postgres": product.server.name}.get(victim, victim))
        sale = aside.submit(visit_and_buy, shop)
        sell(product, sale, point)
    product.wait_healthy(60)
    assert_it_all_came_out(product, len(product.world.paid()))


# What is not a sale -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["self", "postgres"])
def test_a_bot_is_connected_although_a_worker_died_before_it_wrote_so(product: Mortal, victim: str) -> None:
    with product.dies_when("a bot's updates come to us, its row says nothing", victim=victim):
        shop = open_shop(product)

        def connected() -> bool:
            product.bury()
            return product.rows("select state from bot where id = :id", id=shop.bot_id) == [{"state": "active"}]

        in_time(product, connected, 31, BEAT_S)
    product.wait_healthy(60)
    visit_and_buy(shop)
    assert_it_all_came_out(product, len(product.world.paid()))


@pytest.mark.parametrize("point", ["a shop file is half written", "a shop file is written and committed"])
def test_a_shop_file_is_applied_whole_or_not_at_all(product: Mortal, point: str) -> None:
    number = 900 + len(point)
    file = product.home / "shop.yaml"
    file.write_text(FILE.format(number=number))
    with product.dies_when(point):
        assert product.command("apply", str(file)).returncode == -signal.SIGKILL
    shops = product.rows("select id from seller where email = :email", email=f"arquivo{number}@example.com")
    assert len(shops) == (0 if "half" in point else 1)
    assert product.command("apply", str(file)).returncode == 0
    [applied] = product.rows("select id from seller where email = :email", email=f"arquivo{number}@example.com")
    made = "select count(*) as n from {} where seller_id = :id"
    assert [product.rows(made.format(table), **applied)[0]["n"] for table in ("offer", "bot", "link")] == [1, 1, 1]


FILE = """\
seller: {{name: Arquivo, email: arquivo{number}@example.com, timezone: America/Sao_Paulo}}
gateways:
  - {{name: principal, kind: pushinpay, credentials: {{token: "segredo-{number}"}}}}
offers:
  - {{key: curso, name: Curso, price: "49.90", delivers: [{{kind: link, url: "https://example.com/curso"}}]}}
bots:
  - {{key: vendas, test: true, offers: [curso]}}
links:
  - {{slug: arquivo{number}, bot: vendas}}
destinations: []
"""


def test_a_first_start_that_is_killed_at_every_step_is_made_good_by_the_next(tmp_path: Path) -> None:
    with World() as world, Mortal(world, tmp_path) as product:
        for point in STARTS:
            with product.dies_when(point):
                product.begin()
                until(lambda: "run" not in product.pids(), 60)
        product.start()
        until(lambda: "first_login --again" in product.log.read_text(), 20)
        visit_and_buy(open_shop(product))
        assert_it_all_came_out(product, 1)
