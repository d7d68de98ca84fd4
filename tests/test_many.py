"""Many bots, many workers: two of each process on one database, polls that change hands, bots by the thousand."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from benchmarks.proc import pss_mb
from bot_manager.security.vault import fingerprint, new_secret
from models import Bot, BotState, db
from tests import ledger
from tests.crashing.aftermath import assert_it_all_came_out, buy
from tests.product import Product, free_port
from tests.shops import Shop, open_shop
from tests.until import until
from tests.world import World

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0
HOLDER = "select distinct pid from pg_locks where locktype = 'advisory' and classid = 7263003"
LOCKS = "select count(*) as n from pg_locks where locktype = 'advisory' and classid = 7263003"


@pytest.fixture
def product(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Product]:
    with World() as world, Product(world, tmp_path, **getattr(request, "param", {})) as whole:
        whole.start()
        yield whole


polled = pytest.mark.parametrize("product", [{"PUBLIC_URL": ""}], indirect=True)


# Two of each ------------------------------------------------------------------------------------------------------


def test_a_bunch_of_sales_comes_out_once_from_two_workers_and_two_webs(product: Product) -> None:
    shops = [open_shop(product, gateways=("pushinpay", "woovi")) for _ in range(2)]
    product.spawn("worker")
    second = f"http://127.0.0.1:{_second_web(product)}"
    until(lambda: len(product.rows("select 1 from procrastinate_workers")) == 2, PATIENCE_S)
    people = [product.world.telegram.person() for _ in range(24)]
    for number, person in enumerate(people):
        shop = shops[number % 2]
        person.start(shop.token, _click(shop, second if number % 4 < 2 else product.url))
    with ThreadPoolExecutor(len(people)) as crowd:
        sales = [crowd.submit(buy, shops[n % 2], person, 2) for n, person in enumerate(people)]
        for sale in sales:
            sale.result()
    _say_it_all_again(product, second)
    assert_it_all_came_out(product, len(people))
    assert ledger.repeated(product.world, product.rows) == 0
    assert product.rows("select deadlocks from pg_stat_database where datname = current_database()") == [
        {"deadlocks": 0}
    ]
    shared = product.rows("select worker_id, count(*) as n from procrastinate_jobs group by worker_id")
    assert len([row for row in shared if row["n"] > 5]) >= 2, "one of the two did nothing"


def _second_web(product: Product) -> int:
    port = free_port()
    product.spawn("web", PORT=str(port))
    until(lambda: _healthy(port), PATIENCE_S)
    return port


def _healthy(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=2).ok
    except requests.RequestException:
        return False


def _click(shop: Shop, url: str) -> str:
    answer = requests.get(f"{url}/go/{shop.slug}", allow_redirects=False, timeout=10)
    return answer.headers["Location"].partition("?start=")[2]


def _say_it_all_again(product: Product, url: str) -> None:
    """Every notice once more, at the other web."""
    for notice in [*product.world.pushinpay.notices, *product.world.woovi.notices]:
        there = urlsplit(notice.url)._replace(netloc=urlsplit(url).netloc).geturl()
        assert requests.post(there, notice.body, headers=dict(notice.headers), timeout=10).status_code == 200


def test_two_clocks_make_one_job_of_a_timer(product: Product) -> None:
    shop = open_shop(product)
    product.spawn("worker")
    until(lambda: len(product.rows("select 1 from procrastinate_workers")) == 2, PATIENCE_S)
    before = product.rows("select count(*) as n from procrastinate_jobs where task_name = 'look'")[0]["n"]
    for _ in range(5):
        product.change(
            "insert into timer (key, kind, seller_id, args, trace_id, due_at) select 'many:' || gen_random_uuid(), 'look',"
            " :seller, '{\"payment\": 0, \"wait\": 1}', '', now() from generate_series(1, 40)",
            seller=shop.seller_id,
        )
        until(lambda: not product.rows("select 1 from timer where key like 'many:%'"), PATIENCE_S)
    after = product.rows("select count(*) as n from procrastinate_jobs where task_name = 'look'")[0]["n"]
    assert after - before == 200
    product.change("delete from procrastinate_jobs where task_name = 'look'")


# A poll changes hands ---------------------------------------------------------------------------------------------


@polled
def test_when_the_process_that_polls_is_killed_the_other_takes_over(product: Product) -> None:
    shop = open_shop(product)
    until(lambda: product.rows(HOLDER), PATIENCE_S)
    [first] = product.rows(HOLDER)
    product.spawn("bots")
    until(lambda: _lock_connections(product) == 2, PATIENCE_S)
    product.kill("worker")
    until(lambda: product.rows(HOLDER) not in ([], [first]), 10)
    person = product.world.telegram.person()
    person.start(shop.token)
    until(lambda: product.rows("select 1 from inbox"), 10)
    person.wait_button(shop.token, "Curso Completo", PATIENCE_S)
    assert len(person.received(shop.token)) == 1


@polled
def test_a_process_that_polled_and_was_paused_doubles_nothing_when_it_wakes(product: Product) -> None:
    shop = open_shop(product)
    until(lambda: product.rows(HOLDER), PATIENCE_S)
    [first] = product.rows(HOLDER)
    product.spawn("bots")
    product.spawn("worker")
    until(lambda: _lock_connections(product) == 2, PATIENCE_S)
    paused = product.pids()["worker"]
    os.kill(paused, signal.SIGSTOP)
    people = [product.world.telegram.person() for _ in range(6)]
    try:
        for person in people[:3]:
            person.start(shop.token)  # what the paused one's poll is answered, and it can't keep
        until(lambda: product.rows(HOLDER) not in ([], [first]), 30)
        for person in people[:3]:
            person.wait_button(shop.token, "Curso Completo", PATIENCE_S)
    finally:
        os.kill(paused, signal.SIGCONT)
    for person in people[3:]:
        person.start(shop.token)
        person.wait_button(shop.token, "Curso Completo", PATIENCE_S)
    until(lambda: not product.rows("select 1 from inbox where state = 'new'"), PATIENCE_S)
    assert [len(person.received(shop.token)) for person in people] == [1] * 6
    assert ledger.unkept(product.world, product.rows) == []
    assert len(product.rows(HOLDER)) == 1


def _lock_connections(product: Product) -> int:
    asked = "select count(*) as n from pg_stat_activity where application_name = 'polling'"
    return int(product.rows(asked)[0]["n"])


# By the thousand --------------------------------------------------------------------------------------------------

_numbers = count(700_000)


@polled
@pytest.mark.parametrize(("bots", "rounds"), [(300, 6), (3000, 1)])
def test_bots_are_added_swapped_and_removed_again_and_again_with_flat_memory(
    product: Product, bots: int, rounds: int
) -> None:
    shop = open_shop(product)
    pid = product.spawn("bots").pid
    product.change("update bot set archived_at = now()")
    until(lambda: _lock_connections(product) == 2, PATIENCE_S)
    os.kill(product.pids()["worker"], signal.SIGSTOP)  # the other one is looked at
    try:
        _add(product, shop.seller_id, bots)
        _round(product, bots)
        before = _measured(pid)
        for _ in range(rounds):
            _round(product, bots)
        after = _measured(pid)
    finally:
        os.kill(product.pids()["worker"], signal.SIGCONT)
    assert after["fds"] <= before["fds"] + 10
    assert after["threads"] <= 8  # four for the database, made when they are needed
    assert after["mb"] < before["mb"] * 1.1 + 3, (before, after)


def _round(product: Product, bots: int) -> None:
    """All are polled, with a new token, then none is."""
    _swap(product)
    product.change("update bot set archived_at = null, state = 'active' where key like 'many%'")
    until(lambda: product.rows(LOCKS) == [{"n": bots}], 120)
    fake = product.world.telegram
    until(lambda: sum(box.polls > 0 for box in list(fake.postman._boxes.values())) >= bots, 180)
    product.change("update bot set archived_at = now() where key like 'many%'")
    until(lambda: product.rows(LOCKS) == [{"n": 0}], PATIENCE_S)


def _add(product: Product, seller: int, bots: int) -> None:
    with product.seller(seller):
        for number in range(bots):
            bot = Bot(seller_id=seller, key=f"many{number}", public_id=new_secret(), state=BotState.ACTIVE)
            bot.username, bot.version = f"many{number}_bot", 1
            db.session.add(bot)
        db.session.commit()


def _swap(product: Product) -> None:
    """A new token for each; Telegram knows the old ones no more."""
    fake, vault = product.world.telegram, product.app.extensions["vault"]
    rows = product.rows("select id, seller_id from bot where key like 'many%'")
    for token in [token for token in fake.bots if token.startswith("7")]:
        del fake.bots[token]
        fake.postman._boxes.pop(token, None)
    fresh = []
    for row in rows:
        token = f"{next(_numbers)}:AAE-many"
        fake.add_bot(token, f"many{token.partition(':')[0]}_bot")
        sealed = vault.seal(token, "bot.token", row["seller_id"])
        fresh.append((row["id"], sealed, fingerprint(token)))
    with product._owner.begin() as connection:
        connection.exec_driver_sql(
            "update bot set token_sealed = n.sealed, token_hash = n.hash, version = version + 1"
            " from unnest(%s::bigint[], %s::bytea[], %s::text[]) n(id, sealed, hash) where bot.id = n.id",
            tuple(map(list, zip(*fresh, strict=True))),
        )


def _measured(pid: int) -> dict[str, float]:
    process = psutil.Process(pid)
    return {"fds": process.num_fds(), "threads": process.num_threads(), "mb": pss_mb(pid)}
