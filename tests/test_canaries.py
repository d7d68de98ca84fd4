"""Secrets and people's data let loose as canaries through the whole line, also where it breaks; none may be heard."""

from __future__ import annotations

import io
import logging
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import text

from bot_manager import log
from bot_manager.ops import programs
from gateways import all_gateways
from models import db
from tests.canaries import IN_THE_OPEN, PERSON, SAID, Cage, heard, in_pages, in_the_database, knock, sell_in_a_storm
from tests.line import Line
from tests.theirs import PASSWORDS, Guest, Theirs
from tests.until import until
from tests.world import World

CALM_S = 120.0
_FIRST_LOGIN = r"First login: \S+ · (\S+) \(shown this once\)"  # to the operator, at the first start alone


@pytest.fixture
def logs() -> Iterator[dict[str, io.StringIO]]:
    """What is logged in this process, in both forms, at its loudest."""
    streams = {"json": io.StringIO(), "console": io.StringIO()}
    handlers = [log.handler(form, stream) for form, stream in streams.items()]
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel("DEBUG")
    for name in (*log._QUIET, "werkzeug"):  # the product's server is gunicorn, which keeps no list of requests
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in handlers:
        root.addHandler(handler)
    yield streams
    for handler in handlers:
        root.removeHandler(handler)
    root.setLevel(level)


def _break_the_core(cage: Cage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exceptions full of canaries inside our own code: in a request, a job, a statement."""
    line, shop = cage.line, cage.shop

    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError(cage.all_of_it())

    def refused(*_: Any, **__: Any) -> Any:
        db.session.execute(text("select cast(:all as bigint)"), {"all": cage.all_of_it()})

    for mistake in (broken, refused):
        with monkeypatch.context() as patch:
            patch.setattr("bot_manager.funnels.engine.step", mistake)
            patch.setattr("web.redirect.record", mistake)
            patch.setattr("bot_manager.payments.notices._keep", mistake)
            cage.note(requests.get(f"{line.url}/go/{shop.slug}", headers={"Accept": "text/html"}, timeout=10))
            secret = cage.canaries["woovi webhook secret"]
            cage.note(requests.post(f"{line.url}/webhook/woovi/{secret}", json={"a": SAID["cpf"]}, timeout=10))
            person = line.world.telegram.person(**PERSON)
            person.say(shop.token, SAID["words"])
            for _ in range(6):
                line.work()
                line.pass_time(100)


def test_no_canary_is_heard_anywhere(line: Line, logs: dict[str, io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    """In one flight, since it takes a whole line: logs of both kinds, every column, every answer, every page."""
    cage = Cage(line)
    sell_in_a_storm(cage)
    knock(cage)
    _break_the_core(cage, monkeypatch)
    pages = in_pages(cage)

    assert [row["status"] for row in cage.shop.payments()] == ["paid"]
    wanted = {f"{kind} {each.name}" for kind, edge in all_gateways().items() for each in edge.credentials}
    assert wanted <= set(cage.canaries)
    assert len(cage.canaries) >= 60
    assert len(set(cage.canaries.values())) == len(cage.canaries)
    out = {
        "logs, JSON": heard(cage.songs(), logs["json"].getvalue()),
        "logs, console": heard(cage.songs(), logs["console"].getvalue()),
        "answers": heard(cage.songs(), "\n".join(cage.answers)),
        **in_the_database(cage),
        **pages,
    }
    assert {where: songs for where, songs in out.items() if songs} == {}


# The processes --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_canary_is_heard_from_the_processes_their_commands_and_their_backups(tmp_path: Path) -> None:
    """Web, worker and what watches over them, at their loudest, while companies fail and the database is restarted."""
    loud = {"LOG_LEVEL": "DEBUG", "LOG_FORMAT": "json", "TRUSTED_PROXIES": "127.0.0.1"}
    with Theirs(tmp_path / "theirs") as theirs, World() as world, Guest(world, tmp_path, theirs, **loud) as product:
        product.start()
        product.spawn("worker", LOG_FORMAT="console")
        cage = Cage(product)
        first_login = until(lambda: re.search(_FIRST_LOGIN, product.log.read_text()), 30)
        database = {f"database password of {role}": word for role, word in PASSWORDS.items()}
        cage.canaries |= database | {"operator's first password": first_login[1]}

        sell_in_a_storm(cage)
        knock(cage)
        _say_what_is_no_http(cage)
        _restart_the_database(cage, theirs)
        _refuse_the_bot(cage)
        _stop_working(cage)
        pages = in_pages(cage)
        said = _said_by_commands(cage, product, tmp_path)
        product.stop()

        assert {row["status"] for row in cage.shop.payments()} == {"paid"}
        assert len(cage.canaries) >= 60
        out = {
            "processes": heard(cage.songs(), product.log.read_text(errors="replace").replace(first_login[0], "")),
            "answers": heard(cage.songs(), "\n".join(cage.answers)),
            **{f"command {name}": heard(cage.songs(*may), words) for name, (words, may) in said.items()},
            **in_the_database(cage),
            **pages,
        }
    assert {where: songs for where, songs in out.items() if songs} == {}


def _say_what_is_no_http(cage: Cage) -> None:
    host, port = "127.0.0.1", int(cage.line.url.rpartition(":")[2])
    song = cage.canaries["woovi webhook secret"]
    for line in (
        f"BREW /webhook/woovi/{song} HTTP/9.9\r\n\r\n",
        f"GET /webhook/woovi/{song}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization {cage.canaries['api key']}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nCookie: a={song}\x00\r\n\r\n",
        f"POST /webhook/woovi/{song} HTTP/1.1\r\nHost: x\r\nContent-Length: {SAID['cpf']}x\r\n\r\n",
        f"POST /webhook/woovi/{song} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{SAID['e-mail']}\r\n",
    ):
        with socket.create_connection((host, port), timeout=10) as client:
            client.sendall(line.encode())
            client.settimeout(10)
            cage.answers.append(client.recv(65536).decode(errors="replace"))


def _restart_the_database(cage: Cage, theirs: Theirs) -> None:
    """While it is away, people click, talk and pay."""
    line, shop, woovi = cage.line, cage.shop, cage.line.world.woovi
    theirs.stop()
    cage.note(requests.get(f"{line.url}/go/{shop.slug}", headers={"Accept": "text/html"}, timeout=20))
    secret = cage.canaries["woovi webhook secret"]
    cage.note(requests.post(f"{line.url}/webhook/woovi/{secret}", json={"a": SAID["cpf"]}, timeout=20))
    cage.note(requests.get(f"{line.url}/health", timeout=20))
    line.world.telegram.person(**PERSON).start(shop.token, "alameda_dos_canarios_5")
    for charge in list(woovi.charges.values()):
        woovi.send_notice(charge)
    theirs.start()
    until(line.healthy, CALM_S)
    line.work(CALM_S)


def _refuse_the_bot(cage: Cage) -> None:
    """Telegram does not know the token any more, and Meta not its own, when there is something to say."""
    line, shop, world = cage.line, cage.shop, cage.line.world
    person = world.telegram.person(**PERSON)
    person.start(shop.token, shop.click())
    person.tap(shop.token, person.wait_button(shop.token, "Curso Completo", 60))
    until(lambda: len(shop.payments()) > 1 and shop.payments()[-1]["status"] == "pending", 60)
    world.meta.revoke(f"pixel-token-{shop.pixel_id}")
    world.telegram.revoke(shop.token)
    for charge in [each for each in world.woovi.charges.values() if not each.paid]:
        world.woovi.pay(charge)
    for charge in [each for each in world.pushinpay.charges.values() if not each.paid]:
        world.pushinpay.pay(charge.id)
    until(lambda: {row["status"] for row in shop.payments()} == {"paid"}, 60)
    line.work(CALM_S)
    line.pass_time(60)
    line.work(CALM_S)
    until(lambda: line.rows("select 1 from bot where state = 'refused'"), 60)


def _stop_working(cage: Cage) -> None:
    """kill -9 amid a rush; what watches over it says so, and starts it anew."""
    for _ in range(5):
        cage.line.world.woovi.send_notice(next(iter(cage.line.world.woovi.charges.values())))
    cage.line.kill("worker")
    cage.line.kill("web")
    cage.line.wait_healthy(CALM_S)


Said = dict[str, tuple[str, tuple[str, ...]]]


def _said_by_commands(cage: Cage, product: Guest, tmp_path: Path) -> Said:
    """By name: what it wrote, and what it may say because that is what it is for."""
    file, email = tmp_path / "shop.dump", cage.canaries["seller's e-mail"]
    own = ("seller's e-mail", "seller's document", "seller's address")
    said: Said = {}
    for words, may in (
        (("export", email), own),
        (("export", "nobody-here@example.org"), ()),
        (("doctor",), ()),
        (("drill",), ()),
        (("backup", str(file)), ()),
        (("restore", str(file), "--replace"), ()),  # refused: it runs
        (("rotate-keys", "--check"), ()),
        (("rotate-webhook", email, "nobody"), own),
        (("apply", str(_wrong_shop(cage, tmp_path))), ()),
        (("migrate",), ()),
    ):
        done = product.command(*words)
        said[words[0] + (" refused" if words[0] in said else "")] = (done.stdout + done.stderr, may)
    wrong = {"DATABASE_OWNER_URL": product.urls.owner.replace("127.0.0.1", "127.0.0.1 x")}
    product.env = {**product.env, **wrong}
    failed = product.command("backup", f"{file}.2")
    said["with a wrong address"] = (failed.stdout + failed.stderr, ())
    restorer = programs.fitting(18)[0].directory / "pg_restore"
    plain = subprocess.run([str(restorer), "-f", "-", str(file)], capture_output=True, check=True, text=True)
    assert "COPY public.webhook_receipt" in plain.stdout
    said["backup's file"] = (plain.stdout, tuple(IN_THE_OPEN))
    return said


def _wrong_shop(cage: Cage, tmp_path: Path) -> Path:
    """Its secrets stand where they do not belong."""
    file, song = tmp_path / "wrong.yaml", cage.canaries
    file.write_text(
        f"seller: {{name: Loja, email: '{song['made-up secret']}'}}\n"
        "gateways:\n"
        f"  - {{name: a, kind: pushinpay, priority: '{song['api key']}', credentials: '{song['pushinpay token']}'}}\n"
        f"  - {{name: b, kind: woovi, credentials: {{app_id: ['{song['woovi app_id']}'], other: x}}}}\n"
        "bots:\n"
        f"  - {{key: v, channel: telegram, token: '{song['bot token']} x', offers: [nothing]}}\n"
        "destinations:\n"
        f"  - {{name: p, kind: meta, pixel_id: '1', access_token: {{a: '{song['pixel token']}'}}, bots: all}}\n"
    )
    return file
