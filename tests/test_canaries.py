"""Secrets and people's data let loose as canaries through the whole line, also where it breaks; none may be heard."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from sqlalchemy import select, text

from bot_manager import log, sellers
from bot_manager.addresses import get_webhook_url
from bot_manager.app import look_across_sellers, vault
from bot_manager.security import doors
from bot_manager.security.vault import new_secret
from models import Bot, Gateway, Role, User, db
from tests.line import Line
from tests.shops import Shop, open_shop
from tests.world import Status

PASSWORD = "canario-senha-que-canta"
PERSON = {"first_name": "Anastácia", "last_name": "Quintela", "username": "anaquint"}
SAID = {
    "cpf": "11144477735",
    "cpf with dots": "529.982.247-25",
    "phone": "+5511987650123",
    "phone without plus": "5521976543210",
    "e-mail": "anastacia.quintela@example.org",
    "pix key": "7d9f0335-8dcf-4a5a-8f3c-6c1d9a1f0c55",
    "payer": "Hermengarda Quintela",
    "words": "meu segredo é o periquito",
}


@dataclass
class Cage:
    """canaries: what each is → its song. heard: what came out where anybody can hear it."""

    line: Line
    shop: Shop
    canaries: dict[str, str]
    log_json: io.StringIO
    log_console: io.StringIO
    answers: list[str] = field(default_factory=list)

    def note(self, answer: requests.Response) -> requests.Response:
        headers = {name: value for name, value in answer.headers.items() if name != "Set-Cookie"}
        self.answers.append(f"{headers} {answer.text}")
        return answer

    def songs(self, *but: str) -> dict[str, str]:
        return {name: song for name, song in self.canaries.items() if name not in but}

    def all_of_it(self) -> str:
        """What an error of our own may carry: everything."""
        return " ".join(self.canaries.values())

    def quoted(self, *names: str) -> str:
        """What another company may say of what it was sent; what it calls names stands in quotes."""
        known = {*SAID} - {"payer", "words", "pix key"}
        sent = [self.canaries[name] for name in (*names, *known)]
        people = [*PERSON.values(), SAID["payer"], SAID["words"]]
        return " ".join([*sent, *(f'"{each}"' for each in people)])


def heard(songs: dict[str, str], where: str) -> list[str]:
    forms = {
        name: (song, song.encode().hex(), json.dumps(song)[1:-1], re.sub(r"\D", "", song) if "cpf" in name else song)
        for name, song in songs.items()
    }
    return sorted(name for name, ways in forms.items() if any(way in where for way in ways))


@pytest.fixture
def cage(line: Line) -> Iterator[Cage]:
    streams = io.StringIO(), io.StringIO()
    handlers = [log.handler("json", streams[0]), log.handler("console", streams[1])]
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel("DEBUG")
    for name in (*log._QUIET, "werkzeug"):  # the product's server is gunicorn, which keeps no list of requests
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in handlers:
        root.addHandler(handler)
    shop = open_shop(line, gateways=("pushinpay", "woovi"))
    yield Cage(line, shop, _canaries(line, shop), *streams)
    for handler in handlers:
        root.removeHandler(handler)
    root.setLevel(level)


def _canaries(line: Line, shop: Shop) -> dict[str, str]:
    with line.seller(shop.seller_id):
        gateways = {kind: db.session.get_one(Gateway, number) for kind, number in shop.gateways.items()}
        bot = db.session.get_one(Bot, shop.bot_id)
        opened = {
            kind: vault().open_json(g.credentials_sealed, "gateway.credentials", shop.seller_id)
            for kind, g in gateways.items()
        }
        secrets = {f"{kind} webhook secret": get_webhook_url(g).rpartition("/")[2] for kind, g in gateways.items()}
        user = db.session.scalars(select(User)).one()
        invitation = sellers.invite(shop.seller_id, user.id)
        user.password = sellers.hash_password(PASSWORD)
        keys = {"telegram secret": doors.telegram_secret(bot.public_id), "invitation": invitation}
        db.session.commit()
    other = {f"{kind} credential": next(iter(values.values())) for kind, values in opened.items()}
    pixel = {"bot token": shop.token, "pixel token": f"pixel-token-{shop.pixel_id}", "password": PASSWORD}
    people = {f"person's {name}": value for name, value in PERSON.items()}
    return {
        **secrets,
        **other,
        **keys,
        **pixel,
        **people,
        **SAID,
        "made-up secret": new_secret(),
        "api key": new_secret(),
    }


def csrf(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return found[1]


def _log_in(cage: Cage, email: str, password: str) -> requests.Session:
    browser = requests.Session()
    browser.headers["Accept"] = "text/html"
    page = browser.get(f"{cage.line.url}/login", timeout=10)
    form = {"email": email, "password": password, "csrf_token": csrf(page.text)}
    cage.note(browser.post(f"{cage.line.url}/login", form, timeout=10, allow_redirects=False))
    return browser


def _sale_in_a_storm(cage: Cage) -> None:
    """Each stage fails first, its error full of canaries; then the sale is made."""
    line, world, shop = cage.line, cage.line.world, cage.shop
    person = world.telegram.person(**PERSON)
    refusal = {"ok": False, "error_code": 400, "description": f"Bad Request: {cage.quoted('bot token')}"}
    for call, fake, answer in (
        ("/sendMessage", world.telegram, Status(502, refusal | {"error_code": 502})),
        ("/pix/cashIn", world.pushinpay, Status(422, {"message": cage.quoted("pushinpay credential")})),
        (
            "/events",
            world.meta,
            Status(400, {"error": {"message": cage.all_of_it(), "type": "OAuthException", "code": 190}}),
        ),
    ):
        fake.fail(call, how=answer)
    agent = {"User-Agent": "Mozilla/5.0 (Canary) Android", "X-Forwarded-For": "203.0.113.99"}
    query = {
        "utm_source": "ig",
        "fbclid": "IwAR0canary",
        "email": SAID["e-mail"],
        "access_token": cage.canaries["pixel token"],
    }
    click = cage.note(
        requests.get(f"{line.url}/go/{shop.slug}", query, headers=agent, allow_redirects=False, timeout=10)
    )
    person.start(shop.token, click.headers["Location"].partition("?start=")[2])
    line.work()
    line.pass_time(5)
    person.say(shop.token, " ".join(SAID.values()))
    person.tap(shop.token, person.button(shop.token, "Curso Completo"))
    line.work()
    world.pushinpay.fail("/transactions/", how=Status(500, {"message": cage.quoted("pushinpay credential")}))
    charges = [*world.woovi.charges.values(), *world.pushinpay.charges.values()]
    assert charges
    payer = {
        "customer": {
            "name": SAID["payer"],
            "taxID": {"taxID": SAID["cpf"]},
            "email": SAID["e-mail"],
            "phone": SAID["phone"],
        }
    }
    for charge in world.woovi.charges.values():
        world.woovi.send_notice(charge, signature="wrong", changes=payer)
        world.woovi.pay(charge)
    for charge in list(world.pushinpay.charges):
        world.pushinpay.send_notice(
            charge,
            changes={
                "payer_name": SAID["payer"],
                "payer_national_registration": SAID["cpf"],
                "pix_key": SAID["pix key"],
            },
        )
        world.pushinpay.pay(charge)
    world.woovi.wait_for(lambda: shop.payments()[0]["status"] == "paid")
    line.work()
    line.pass_time(90)


def _knock(cage: Cage) -> None:
    """Secrets where they do not belong: in paths, queries, headers and forms."""
    url, songs = cage.line.url, cage.canaries
    for secret in (songs["made-up secret"], songs["woovi webhook secret"], songs["bot token"], songs["invitation"]):
        for path in (
            f"/webhook/woovi/{secret}",
            f"/webhook/{secret}/x",
            f"/tg/{secret}",
            f"/go/{secret}",
            f"/convite/x{secret}",
        ):
            cage.note(requests.post(f"{url}{path}", f"not json {SAID['cpf']}", timeout=10))
            requests.get(f"{url}{path}?t={secret}", headers={"Accept": "text/html"}, timeout=10)
    headers = {
        "Authorization": f"Bearer {songs['api key']}",
        "X-Telegram-Bot-Api-Secret-Token": songs["telegram secret"],
    }
    cage.note(requests.get(f"{url}/health", headers=headers, timeout=10))
    cage.note(
        requests.post(
            f"{url}/csp", json={"csp-report": {"blocked-uri": f"https://x/{songs['invitation']}"}}, timeout=10
        )
    )
    for _ in range(12):
        _log_in(cage, "nobody@example.org", "wrong " + PASSWORD)


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


@pytest.fixture
def flown(cage: Cage, monkeypatch: pytest.MonkeyPatch) -> Cage:
    _sale_in_a_storm(cage)
    _knock(cage)
    _break_the_core(cage, monkeypatch)
    return cage


def test_no_canary_is_heard_anywhere(flown: Cage) -> None:
    """In one flight, since it takes a whole line: logs of both kinds, every column, every answer, every page."""
    pages = _pages(flown)
    wild = flown.songs()
    assert [row["status"] for row in flown.shop.payments()] == ["paid"]
    assert len(wild) >= 20
    out = {
        "logs, JSON": heard(wild, flown.log_json.getvalue()),
        "logs, console": heard(wild, flown.log_console.getvalue()),
        "database": heard(wild, _dump(flown.line)),
        "answers": heard(wild, "\n".join(flown.answers)),
        **{f"pages of {who}": heard(flown.songs(*SHOWN_TO.get(who, ())), html) for who, html in pages.items()},
    }
    assert {where: songs for where, songs in out.items() if songs} == {}


# The shop's owner sees their customers' names, and the addresses that they have to give to their gateways.
SHOWN_TO = {
    "owner": ("pushinpay webhook secret", "woovi webhook secret", *(f"person's {name}" for name in PERSON)),
}


def _dump(line: Line) -> str:
    """Every table, the job engine's too: what backups hold in the open is no more than this."""
    names = line.rows("select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace")
    rows = [line.rows(f'select t::text as row from "{row["relname"]}" t') for row in names]
    return "\n".join(str(row["row"]) for table in rows for row in table)


def _pages(cage: Cage) -> dict[str, str]:
    """Every page without an argument but the seller's, as owner, as another shop's owner, as operator, as nobody."""
    line, shop = cage.line, cage.shop
    other = open_shop(line)
    with line.app.app_context():
        role = Role(name="operator")
        sellers.add_user("olga@example.net", PASSWORD, role)
        look_across_sellers()
        emails = {
            row.seller_id: row.email
            for row in db.session.execute(
                text('select m.seller_id, u.email from membership m join "user" u on u.id = m.user_id')
            )
        }
        db.session.commit()
        for email in emails.values():
            user = db.session.scalars(select(User).filter_by(email=email)).one()
            user.password = sellers.hash_password(PASSWORD)
        db.session.execute(text("delete from allowance"))
        db.session.commit()
    people = {
        "owner": (emails[shop.seller_id], shop),
        "other": (emails[other.seller_id], other),
        "operator": ("olga@example.net", shop),
    }
    pages = {}
    for who, (email, theirs) in people.items():
        browser = _log_in(cage, email, PASSWORD)
        pages[who] = _visit(cage, browser, theirs)
        cage.canaries[f"session of {who}"] = browser.cookies["panel"].rpartition(".")[2]
    pages["nobody"] = _visit(cage, requests.Session(), shop)
    return pages


def _visit(cage: Cage, browser: requests.Session, shop: Shop) -> str:
    values = {"seller_id": shop.seller_id, "bot_id": shop.bot_id, "payment_id": cage.shop.payments()[0]["payment_id"]}
    seen = []
    for rule in cage.line.app.url_map.iter_rules():
        if "GET" in (rule.methods or set()) and rule.arguments <= set(values):
            built = rule.build({name: values[name] for name in rule.arguments})
            assert built
            answer = browser.get(f"{cage.line.url}{built[1]}", headers={"Accept": "text/html"}, timeout=20)
            headers = {name: value for name, value in answer.headers.items() if name != "Set-Cookie"}
            seen.append(f"{rule}: {headers} {answer.text}")
    return "\n".join(seen)
