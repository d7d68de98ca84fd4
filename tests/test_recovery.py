"""The real product after the worst days: hours away, a lost disk, another key, another version of the program."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from sqlalchemy import create_engine

from bot_manager.ops.checker import Finding, check
from bot_manager.settings import engine_url
from models import UNBOOKED
from tests import ledger
from tests.product import ROOT, Product
from tests.shops import Shop, open_shop
from tests.until import until
from tests.world import World
from tests.world.telegram import Person

pytestmark = pytest.mark.slow

PATIENCE_S = 180.0
AWAY = timedelta(hours=3)
_MIGRATIONS = "migrations/versions"
LINK = "https://example.com/curso"
MOMENTS = (
    "payment set created_at = created_at - :gone, expires_at = expires_at - :gone",
    "charge_attempt set started_at = started_at - :gone",
    "timer set due_at = due_at - :gone",
    "pulse set at = at - :gone",
)
DELIVERED = """
    select count(*) as n from payment p join delivery d on d.payment_id = p.id
    where p.status = 'paid' and d.state = 'delivered'"""
# From here on a migration that landed keeps its place and its words; programs of before were nobody's.
_ORDERED = "0007_logins_and_allowances.py"
_ONE_MORE = """
from alembic import op
import sqlalchemy as sa

revision, down_revision, branch_labels, depends_on = "9999", "{newest}", None, None

def upgrade():
    op.create_table("of_later", sa.Column("id", sa.BigInteger, primary_key=True))
    op.add_column("payment", sa.Column("of_later", sa.Text, nullable=False, server_default="later"))
"""
SHOP = """
seller: {{name: Loja, email: dona@example.com}}
gateways:
  - {{name: principal, kind: pushinpay, priority: 1, credentials: {{token: "{token}"}}}}
offers:
  - {{key: curso, name: Curso Completo, price: "49.90", delivers: [{{kind: link, url: "https://example.com/curso"}}]}}
bots:
  - {{key: vendas, channel: telegram, token: "{bot}", offers: [curso], pix_minutes: 30}}
links:
  - {{slug: promo, bot: vendas}}
destinations:
  - {{name: pixel, kind: meta, pixel_id: "5550777", access_token: "pixel-token-5550777", bots: all}}
"""


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    with World() as world, Product(world, tmp_path) as whole:
        whole.start()
        yield whole


def charge(shop: Shop) -> tuple[Person, str]:
    """Somebody comes and gets a code."""
    person = shop.line.world.telegram.person()
    person.start(shop.token, shop.click())
    person.wait_button(shop.token, "Curso Completo", PATIENCE_S)
    person.tap(shop.token, "Curso Completo")
    return person, person.wait_button(shop.token, "Copiar", PATIENCE_S).copy_text or ""


def pay(world: World, code: str) -> None:
    for bank in (world.pushinpay, world.woovi):
        for made in [each for each in bank.charges.values() if each.pix_code == code]:
            bank.pay(made.id)


def sell(shop: Shop) -> Person:
    person, code = charge(shop)
    pay(shop.line.world, code)
    person.wait_text(shop.token, LINK, PATIENCE_S)
    return person


@contextmanager
def selling(shops: list[Shop], many: int) -> Iterator[list[Future[Person]]]:
    """So many sales go on during the block, and are done after it."""
    with ThreadPoolExecutor(4) as crowd:
        sales = [crowd.submit(sell, shops[n % len(shops)]) for n in range(many)]
        yield sales
        for sale in sales:
            sale.result()


def findings(product: Product) -> list[Finding]:
    engine = create_engine(engine_url(product.urls.owner))
    try:
        with engine.connect() as connection:
            return check(connection, timedelta(0))
    finally:
        engine.dispose()


def assert_all_books_agree(product: Product, sales: int) -> None:
    last: list[Finding] = []

    def at_rest() -> bool:
        last[:] = findings(product)
        return not last

    with suppress(AssertionError):
        until(at_rest, 60)
    assert last == []
    assert product.rows("select count(*) as n from payment where status = 'paid'") == [{"n": sales}]
    assert ledger.differences(product.world, product.rows) == []
    assert ledger.repeated(product.world, product.rows) == 0


def errors(product: Product) -> list[str]:
    """What its processes logged as an error."""
    lines = product.log.read_text(errors="replace").splitlines()
    return [line for line in lines if "ERROR" in line or "Traceback" in line]


# Away -------------------------------------------------------------------------------------------------------------


def test_after_three_hours_away_all_that_was_paid_is_delivered_within_ten_minutes(product: Product) -> None:
    world = product.world
    shops = [open_shop(product, gateways=(kind,)) for kind in ("pushinpay", "pushinpay", "woovi")]
    with ThreadPoolExecutor(6) as crowd:
        waiting = list(crowd.map(charge, shops * 34))
    product.stop()
    for _, code in waiting[:90]:
        pay(world, code)
    world.pushinpay.wait_delivered(timeout=60)  # to nobody: they have given up
    world.woovi.wait_delivered(timeout=60)
    with product.server.used():
        product.server.start()
        for moments in MOMENTS:
            product.change(f"update {moments}", gone=AWAY)

        began = time.monotonic()
        product.start()
        until(lambda: product.rows(DELIVERED) == [{"n": 90}], 300)
        took = time.monotonic() - began
    assert took < 600
    until(lambda: product.rows("select count(*) as n from lookup") == [{"n": 0}], 120)
    assert_all_books_agree(product, 90)
    asked = [call for call in world.pushinpay.calls if call.method == "GET"]
    assert len(asked) <= 70
    assert world.refusals == []


# A lost disk, and another key -------------------------------------------------------------------------------------


def test_a_lost_disk_costs_no_sale_that_was_backed_up_and_doubles_none(product: Product, tmp_path: Path) -> None:
    world = product.world
    shops = [open_shop(product, gateways=(kind,)) for kind in ("pushinpay", "woovi")]
    open_ones = [charge(shop) for shop in shops for _ in range(3)]
    with selling(shops, 8):
        until(lambda: product.rows("select count(*) as n from payment where status = 'paid'")[0]["n"] > 1, PATIENCE_S)
        drilled = product.command("drill")
    assert drilled.returncode == 0, drilled.stdout + drilled.stderr
    product.work()
    made = product.command("backup", str(tmp_path / "shop.dump"))
    assert made.returncode == 0, made.stderr
    product.stop()
    for _, code in open_ones:
        pay(world, code)
    world.pushinpay.wait_delivered(timeout=60)
    world.woovi.wait_delivered(timeout=60)
    shutil.rmtree(product.home / "var")

    began = time.monotonic()
    restored = product.command("restore", str(tmp_path / "shop.dump"))
    assert restored.returncode == 0, restored.stderr
    product.start()

    for (person, _), shop in zip(open_ones, [shop for shop in shops for _ in range(3)], strict=True):
        person.wait_text(shop.token, LINK, PATIENCE_S)
    sell(shops[0])
    until(lambda: product.rows("select count(*) as n from lookup") == [{"n": 0}], 120)
    assert_all_books_agree(product, 15)
    assert time.monotonic() - began < 300


def test_restore_refuses_while_the_product_runs(product: Product, tmp_path: Path) -> None:
    open_shop(product)
    assert product.command("backup", str(tmp_path / "shop.dump")).returncode == 0

    refused = product.command("restore", str(tmp_path / "shop.dump"), "--replace")

    assert refused.returncode == 2
    assert "already runs" in refused.stderr
    assert product.healthy()


def test_keys_are_rotated_during_twenty_sales_and_none_notices(product: Product) -> None:
    shops = [open_shop(product, gateways=(kind,)) for kind in ("pushinpay", "woovi")]
    with selling(shops, 20):
        until(lambda: product.rows("select count(*) as n from payment where status = 'paid'")[0]["n"] > 2, PATIENCE_S)
        rotated = product.command("rotate-keys")
        assert rotated.returncode == 0, rotated.stderr
        removed = product.command("rotate-keys", "--remove-old")
        assert removed.returncode == 0, removed.stderr
    product.work()
    assert len((product.home / "keys" / "encryption_keys").read_text().split()) == 1
    assert_all_books_agree(product, 20)
    assert errors(product) == []
    product.stop()
    product.start()
    sell(shops[0])
    assert_all_books_agree(product, 21)


# Another version of the program -----------------------------------------------------------------------------------


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path]:
    """An old program and a new one: that of before the newest migration and ours; or, where git knows of none such
    (no clone, a shallow one), ours and ours with one more migration."""
    revision = with_fewer_migrations(ROOT)
    return (_unpacked(revision, tmp_path / "old"), ROOT) if revision else (ROOT, _one_further(tmp_path / "new"))


def _unpacked(revision: str, place: Path) -> Path:
    place.mkdir()
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive.stdout, check=True)
    return place


def _one_further(place: Path) -> Path:
    """A copy of the program whose schema has what a later one will have: one more table, one more column."""
    for part in ("bot_manager", "gateways", "migrations", "tracking", "web"):
        shutil.copytree(ROOT / part, place / part)
    for file in ROOT.glob("*.py"):
        shutil.copy(file, place)
    newest = max(path.stem for path in (place / _MIGRATIONS).glob("*.py"))
    more = place / _MIGRATIONS / "9999_one_more.py"
    more.write_text(_ONE_MORE.format(newest=newest.partition("_")[0]))
    return place


def with_fewer_migrations(root: Path, since: str = _ORDERED) -> str | None:
    """The last state on this line of history whose migrations are ours but the newest; None when git knows of none.

    A merge counts as one step. since: a migration that it has to have.
    """
    ours = {path.name: _git(root, "hash-object", str(path)) for path in (root / _MIGRATIONS).glob("*.py")}
    changed = (_git(root, "rev-list", "--first-parent", "HEAD", "--", _MIGRATIONS) or "").split()
    for revision in ("HEAD", *(f"{commit}^1" for commit in changed)):
        listed = (_git(root, "ls-tree", "--format=%(path) %(objectname)", f"{revision}:{_MIGRATIONS}") or "").split()
        theirs = dict(zip(listed[::2], listed[1::2], strict=True))
        if since in theirs and theirs.items() < ours.items():
            return _git(root, "rev-parse", revision)
    return None


def _git(root: Path, *words: str) -> str | None:
    with suppress(OSError):
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
        return (not done.returncode and done.stdout.strip()) or None
    return None


def test_the_program_with_fewer_migrations_is_found_where_a_merge_brought_the_newest(tmp_path: Path) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    root = tmp_path / "clone"
    (root / _MIGRATIONS).mkdir(parents=True)

    def git(*words: str) -> None:
        subprocess.run(["git", *who, *words], cwd=root, capture_output=True, check=True)

    def keep(name: str, text: str = "") -> str | None:
        (root / name).write_text(text)
        git("add", ".")
        git("commit", "-m", name)
        return _git(root, "rev-parse", "HEAD")

    git("init", "--initial-branch=main")
    keep(f"{_MIGRATIONS}/0001.py", "the first")
    assert with_fewer_migrations(root, "0001.py") is None  # as in a shallow clone: nothing is before it
    git("checkout", "-b", "branch")
    keep(f"{_MIGRATIONS}/0002.py", "after 0001")
    keep("more of the branch")
    git("checkout", "main")
    before = keep("more of main")
    git("merge", "branch", "-m", "merged")
    merged = keep("later")
    assert with_fewer_migrations(root, "0001.py") == before
    (root / _MIGRATIONS / "0003.py").write_text("not committed yet")
    assert with_fewer_migrations(root, "0001.py") == merged

    git("mv", f"{_MIGRATIONS}/0002.py", f"{_MIGRATIONS}/0004.py")
    keep(f"{_MIGRATIONS}/0002.py", "now this comes first")
    assert with_fewer_migrations(root, "0001.py") == before  # not the one whose 0002 is another


def test_old_code_sells_on_the_new_schema_and_new_code_with_the_old_codes_jobs(
    versions: tuple[Path, Path], tmp_path: Path
) -> None:
    old, new = versions
    with World() as world, Product(world, tmp_path, root=old) as product:
        product.start()
        shop = apply_shop(product)
        with selling([shop], 6) as sales:  # the schema changes beneath them
            until(lambda: any(sale.done() for sale in sales), PATIENCE_S)
            before = product.rows("select version_num from alembic_version")
            product.root = new
            migrated = product.command("migrate")
            assert migrated.returncode == 0, migrated.stderr
            assert product.rows("select version_num from alembic_version") != before
        waiting = [charge(shop) for _ in range(2)]

        product.stop()  # the new code, with the old one's timers and, from the notices, jobs
        product.start()
        pay(world, waiting[0][1])
        waiting[0][0].wait_text(shop.token, LINK, PATIENCE_S)
        with selling([shop], 4):
            pass
        waiting.append(charge(shop))

        product.stop()  # and back
        product.root = old
        product.start()
        for person, code in waiting[1:]:
            pay(world, code)
            person.wait_text(shop.token, LINK, PATIENCE_S)
        with selling([shop], 2):
            pass

        product.stop()  # and forward again: what the old code settled comes into the books
        product.root = new
        product.start()
        until(lambda: not product.rows(f"select 1 from charge_attempt where {UNBOOKED}"), PATIENCE_S)
        product.work()
        assert_all_books_agree(product, 15)
        assert errors(product) == []
        assert world.refusals == []


def apply_shop(product: Product) -> Shop:
    """A shop made by the product's own command: this process may be of another version."""
    world, token, bot = product.world, "pushinpay-token-apply", f"990001:AAE-{'1' * 31}"
    world.telegram.add_bot(bot, "loja_bot")
    world.pushinpay.add_account(token)
    world.meta.add_pixel("5550777", "pixel-token-5550777")
    file = product.home / "shop.yaml"
    file.write_text(SHOP.format(token=token, bot=bot))
    applied = product.command("apply", str(file))
    assert applied.returncode == 0, applied.stderr
    made = json.loads(applied.stdout)
    until(lambda: requests.get(f"{product.url}/go/promo", allow_redirects=False, timeout=5).status_code == 302, 60)
    [row] = product.rows("select public_id from bot where id = :id", id=made["bots"]["vendas"]["id"])
    return Shop(product, made["seller"]["id"], made["bots"]["vendas"]["id"], bot, row["public_id"], "promo", "5550777")
