"""`make demo`: whole sales through the product's real processes, against the strict fakes of the world outside.

Starts `python -m bot_manager run` in a directory of its own, opens a shop in it, and buys there twice: once over
PushinPay, whose notices are unsigned and confirmed by asking, once over Woovi, whose signed notice settles by itself.
Prints a line a stage with the time it took; with FORMAT=json one JSON object. Exit code 0 when everything came out.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import requests
from sqlalchemy import create_engine

from bot_manager.ops.checker import check
from bot_manager.settings import engine_url
from tests import ledger
from tests.product import Product
from tests.world import FakePushinPay, FakeWoovi, World
from tests.world.bank import Charge
from tests.world.notices import Notice
from tests.world.telegram import Person

Bank = FakePushinPay | FakeWoovi
PATIENCE_S = 20.0
BROWSER = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36"


class Stages:
    """What was done, under which heading, and how long each took; `waiting` is the one under way."""

    def __init__(self, *, silent: bool) -> None:
        self.done: list[dict[str, str | int]] = []
        self.waiting = ""
        self._heading = ""
        self._silent = silent
        self._began = time.monotonic()

    @property
    def total_ms(self) -> int:
        return _ms_since(self._began)

    def heading(self, text: str) -> None:
        self._heading = text
        self.say(f"\n{text}")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began, self.waiting = time.monotonic(), f"{self._heading}: {name}"
        yield
        self.done.append({"name": self.waiting, "ms": _ms_since(began)})
        self.say(f"  {name:<58}{self.done[-1]['ms']:>7} ms")

    def say(self, line: str) -> None:
        if not self._silent:
            print(line, flush=True)


def _ms_since(moment: float) -> int:
    return round((time.monotonic() - moment) * 1000)


@dataclass(frozen=True)
class Shop:
    """What a visitor needs to know: the link in the ad, and the bot it leads to."""

    slug: str
    bot: str


def main() -> int:
    as_json = os.environ.get("FORMAT", "").lower() == "json"
    stages = Stages(silent=as_json)
    with tempfile.TemporaryDirectory(prefix="bot-manager-demo-") as home:
        log = Path(home) / "run.log"
        try:
            _show(stages, Path(home))
        except Exception as error:  # noqa: BLE001 - whatever it was, it is told
            return _failed(stages, error, log, as_json=as_json)
    if as_json:
        print(json.dumps({"ok": True, "stages": stages.done, "total_ms": stages.total_ms}))
    stages.say(f"\nTwo sales, {stages.total_ms / 1000:.1f} s in all.")
    return 0


def _failed(stages: Stages, error: Exception, log: Path, *, as_json: bool) -> int:
    tail = log.read_text(errors="replace").splitlines()[-30:] if log.exists() else []
    why = f"{type(error).__name__}: {error}"
    if as_json:
        told = {"ok": False, "waiting_for": stages.waiting, "why": why, "log": tail}
        print(json.dumps({**told, "stages": stages.done, "total_ms": stages.total_ms}))
    else:
        print("\n".join(["", f"Waited in vain for: {stages.waiting}", why, "", "The product's last words:", *tail]))
    return 1


def _show(stages: Stages, home: Path) -> None:
    with World() as world, Product(world, home) as product:
        stages.heading("The product starts")
        with stages.stage("PostgreSQL, web and worker are up"):
            product.start()
        with stages.stage("the shop is made"):
            shop = make_shop(product)
        with stages.stage("its bot is connected"):
            product.work(PATIENCE_S)
        for number in (1, 2):
            _sell(stages, product, shop, number)
        stages.heading("Afterwards")
        with stages.stage("the checker finds nothing, the bank's books agree"):
            _audit(product)


# The shop ---------------------------------------------------------------------------------------------------------

SHOP_FILE = """
seller: {name: Loja Exemplo, email: dona@example.com, support: "@suporte"}
gateways:
  - {name: principal, kind: pushinpay, priority: 1, weight: 1, active: true, credentials: {token: demo-pushinpay}}
  - {name: outra, kind: woovi, priority: 1, weight: 1, active: true, credentials: {app_id: demo-woovi}}
offers:
  - {key: curso, name: Curso Completo, price: "49.90", delivers: [{kind: link, url: "https://example.com/curso"}]}
bots:
  - {key: vendas, channel: telegram, token: "100001:AAE-0000000000000000000000000000001", offers: [curso]}
links:
  - {slug: promo, bot: vendas, mode: redirect}
destinations:
  - {name: pixel, kind: meta, pixel_id: "1234567890", access_token: demo-pixel, bots: all}
"""


def make_shop(product: Product) -> Shop:
    """A shop whose two gateways take turns, one bot, one offer and a pixel; the fakes know their side of each."""
    world, file = product.world, product.home / "shop.yaml"
    world.telegram.add_bot("100001:AAE-0000000000000000000000000000001", "loja_exemplo_bot")
    world.pushinpay.add_account("demo-pushinpay")
    world.woovi.add_account("demo-woovi")
    world.meta.add_pixel("1234567890", "demo-pixel")
    file.write_text(SHOP_FILE)
    applied = product.command("apply", str(file))
    assert applied.returncode == 0, applied.stderr
    world.woovi.set_webhook("demo-woovi", json.loads(applied.stdout)["gateways"]["outra"]["webhook_url"])
    return Shop("promo", "loja_exemplo_bot")


# A sale -----------------------------------------------------------------------------------------------------------


def _sell(stages: Stages, product: Product, shop: Shop, number: int) -> None:
    world = product.world
    buyer = world.telegram.person(first_name="Ana")
    stages.heading(f"Sale {number}")
    with stages.stage("a click on the ad leads to the bot"):
        token = _click(product, shop, number)
    with stages.stage("/start: the bot shows what it sells"):
        buyer.start(shop.bot, token)
        buyer.wait_button(shop.bot, "Curso Completo", PATIENCE_S)
    with stages.stage("a tap: the chat shows the PIX code"):
        buyer.tap(shop.bot, "Curso Completo")
        code = buyer.wait_button(shop.bot, "Copiar", PATIENCE_S).copy_text
    charge, bank, how = _charge(world, code)
    with stages.stage(f"the buyer pays; {how}"):
        notices = bank.pay(charge.id)
        _acknowledged(bank, notices)
    _follow(stages, product, buyer, shop, number)


def _follow(stages: Stages, product: Product, buyer: Person, shop: Shop, number: int) -> None:
    world = product.world
    paid = "select count(*) as n from payment where status = 'paid'"
    with stages.stage("the payment is paid"):
        world.pushinpay.wait_for(lambda: product.rows(paid)[0]["n"] == number, PATIENCE_S)
    with stages.stage("what was bought is in the chat"):
        buyer.wait_text(shop.bot, "https://example.com/curso", PATIENCE_S)
    with stages.stage("Meta has the Purchase"):
        world.meta.wait_for(lambda: len(world.meta.deduplicated()) == number, PATIENCE_S)


def _click(product: Product, shop: Shop, number: int) -> str:
    """The tracking token that the visitor arrives in the chat with."""
    query = {"utm_source": "instagram", "fbclid": f"IwAR0demo{number}"}
    address = f"{product.url}/go/{shop.slug}"
    answer = requests.get(
        address, params=query, headers={"User-Agent": BROWSER}, allow_redirects=False, timeout=PATIENCE_S
    )
    assert answer.status_code == 302, f"{answer.status_code} {answer.text[:200]}"
    return answer.headers["Location"].partition("?start=")[2]


def _charge(world: World, code: str | None) -> tuple[Charge, Bank, str]:
    """The charge that this code pays, where, and how that bank's notice is believed."""
    for bank, how in (
        (world.pushinpay, "PushinPay's notice, unsigned, is kept"),
        (world.woovi, "Woovi's notice, signed, is kept"),
    ):
        for charge in bank.charges.values():
            if charge.pix_code == code:
                return charge, bank, how
    raise AssertionError("no bank knows the code")


def _acknowledged(bank: Bank, notices: list[Notice]) -> None:
    answers = bank.wait_delivered(notices, PATIENCE_S)
    assert all(answer[-1] == 200 for answer in answers), answers


def _audit(product: Product) -> None:
    product.work(PATIENCE_S)
    engine = create_engine(engine_url(product.urls.owner))
    with engine.connect() as connection:
        findings = check(connection, timedelta(0))
    engine.dispose()
    assert not findings, findings
    differences = ledger.differences(product.world, product.rows)
    assert not differences, differences
    assert not product.world.refusals, product.world.refusals
    proofs = {row["authenticity"] for row in product.rows("select authenticity from webhook_receipt")}
    assert proofs == {"unsigned", "signed"}, proofs


if __name__ == "__main__":
    sys.exit(main())
