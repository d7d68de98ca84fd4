"""Canaries: made-up secrets and people's data that are let loose through the line, where it works and where it breaks.

cage = Cage(line)
sell_in_a_storm(cage)
knock(cage)
assert heard(cage.songs(), what_anybody_can_read) == []
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

import requests
from sqlalchemy import select, text

import gateways
from bot_manager import sellers
from bot_manager.addresses import get_webhook_url
from bot_manager.app import look_across_sellers, vault
from bot_manager.security import doors
from bot_manager.security.vault import fingerprint, new_secret
from models import Bot, DoorKind, Gateway, Role, Seller, User, db
from tests.line import Line
from tests.shops import Shop, open_shop
from tests.until import until
from tests.world import Status
from tests.world.telegram import Person
from tests.world.telegram.chats import Button

PASSWORD = "canario-senha-que-canta"
WRONG_PASSWORD = "canario-senha-errada-que-canta"
PERSON = {"first_name": "Anastácia", "last_name": "Quintela", "username": "anaquint"}
SAID = {
    "cpf": "11144477735",
    "cpf with dots": "529.982.247-25",
    "cnpj": "11.222.333/0001-81",
    "phone": "+5511987650123",
    "phone without plus": "5521976543210",
    "e-mail": "anastacia.quintela@example.org",
    "pix key": "7d9f0335-8dcf-4a5a-8f3c-6c1d9a1f0c55",
    "street": "Travessa das Andorinhas 1177",
    "card": "4111 1111 1111 1111",
    "words": "meu segredo é o periquito",
}
PAYER = {
    "payer's name": "Hermengarda Quintela",
    "payer's cpf": "39053344705",
    "payer's e-mail": "hermengarda@example.org",
    "payer's phone": "+5531988887777",
}
SHARED = {
    "contact's phone": "5541999912345",
    "contact's name": "Gumercindo Tangará",
    "caption": "comprovante da minha tia Filomena",
    "place": "Alameda dos Bem-te-vis 404",
    "start payload": "rua_dos_pintassilgos_909_apto_31",
    "callback data": "cep-30140-071-casa-da-vovo",
}
BROWSER = {
    "visitor's address": "203.0.113.99",
    "user agent": "Mozilla/5.0 (CanarioPhone 9; Android 14) Chrome/130 Mobile",
    "referrer": "https://l.example.com/u/anastacia-do-bairro-alto",
    "browser id": "fb.1.1763000000000.1116446470",
}
SELLER = {"seller's document": "48.123.456/0001-10", "seller's address": "Praça do Sabiá 12, Belo Horizonte"}

# What is in the database in the open, and why. Nothing else of theirs may be.
IN_THE_OPEN = {
    # Customers have to be told whom they buy from: it is shown to everybody who asks.
    "seller's document": {"seller.document"},
    "seller's address": {"seller.address"},
    # Logins and shop files are found by it.
    "seller's e-mail": {"seller.email", "user.email"},
    # It comes back in notices, and finds the payment; alone it opens nothing, as the address has a secret of its own.
    "notice token": {"payment.webhook_token"},
    # The ads account's name for a click: reports are made by it, and it says nothing of a person but to the ads account.
    "ad click": {"click.fbclid"},
    # Who knocked with a wrong secret, or guesses: it takes the address to shut them out. Gone after its time.
    "knocker's address": {"security_event.origin", "security_event.tally"},
}
# The shop's owner sees who bought, and what they have to give to their gateways and to their customers.
SHOWN = {
    "owner": {
        *(f"{kind} webhook secret" for kind in gateways.all_gateways()),
        *(f"person's {name}" for name in PERSON),
        *SELLER,
        "seller's e-mail",
    },
    "operator": {"knocker's address", "seller's e-mail"},
}


@dataclass
class Cage:
    """canaries: what each is → its song. answers: what the product told those who asked it."""

    line: Line
    shop: Shop = field(init=False)
    canaries: dict[str, str] = field(init=False)
    answers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shop = open_shop(self.line, gateways=("pushinpay", "woovi"))
        self.canaries = _secrets(self.line, self.shop) | _people(self.line, self.shop)

    def note(self, answer: requests.Response) -> requests.Response:
        self.answers.append(told(answer))
        return answer

    def songs(self, *but: str) -> dict[str, str]:
        return {name: song for name, song in self.canaries.items() if name not in but}

    def all_of_it(self) -> str:
        """What an error of our own may carry: everything."""
        return " ".join(self.canaries.values())

    def quoted(self, *names: str) -> str:
        """What another company may say of what it was sent; what it calls names stands in quotes."""
        called = {"pix key", "street", "words", "payer's name"}
        sent = [song for name, song in (SAID | PAYER).items() if name not in called]
        people = [*PERSON.values(), *(song for name, song in (SAID | PAYER).items() if name in called)]
        return " ".join([*(self.canaries[name] for name in names), *sent, *(f'"{each}"' for each in people)])


def told(answer: requests.Response) -> str:
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "set-cookie"}
    return f"{headers} {answer.text}"


def heard(songs: dict[str, str], where: str) -> list[str]:
    """The names of those that are in it, in any of the ways in which texts are written down."""
    return sorted(name for name, song in songs.items() if any(way in where for way in _ways(song)))


def _ways(song: str) -> set[str]:
    raw = song.encode()
    digits = re.sub(r"\D", "", song)
    ways = {
        song,
        raw.hex(),
        json.dumps(song)[1:-1],
        quote(song),
        quote(song, safe=""),
        quote_plus(song),
        repr(song)[1:-1],
    }
    ways |= {base64.b64encode(raw[:-3]).decode().rstrip("=")}
    return ways | ({digits} if len(digits) >= 11 and not re.search("[a-z]", song) else set())


# What they are --------------------------------------------------------------------------------------------------------


def _secrets(line: Line, shop: Shop) -> dict[str, str]:
    with line.seller(shop.seller_id):
        user = db.session.scalars(select(User).order_by(User.id.desc())).first()
        api_key, invitation = new_secret(), sellers.invite(shop.seller_id, user.id)
        user.password = sellers.hash_password(PASSWORD)
        doors.put(DoorKind.API, fingerprint(api_key), shop.seller_id, shop.seller_id)
        bot = db.session.get_one(Bot, shop.bot_id)
        telegram = doors.telegram_secret(bot.public_id)
        found = _credentials(line, shop)
        db.session.commit()
    keys = {
        path.name: path.read_text().split()[0]
        for path in line.app.extensions["settings"].keys_dir.iterdir()
        if path.is_file()
    }
    return {
        **found,
        **{name: keys[name] for name in ("secret_key", "encryption_keys")},
        "bot token": shop.token,
        "telegram secret": telegram,
        "pixel token": f"pixel-token-{shop.pixel_id}",
        "password": PASSWORD,
        "wrong password": WRONG_PASSWORD,
        "invitation": invitation,
        "api key": api_key,
        "made-up secret": new_secret(),
    }


def _credentials(line: Line, shop: Shop) -> dict[str, str]:
    """Of every provider there is: all that it can be given. Those that the world has no fake of are switched off."""
    found = {}
    for kind, edge in gateways.all_gateways().items():
        if kind not in shop.gateways and edge.credentials and not edge.keys_path:
            row = Gateway(seller_id=shop.seller_id, name=kind, kind=kind, priority=9, active=False)
            sellers.add_gateway(row, {each.name: f"canary-{kind}-{each.name}-7c1d" for each in edge.credentials})
    for row in db.session.scalars(select(Gateway)):
        edge = gateways.get(row.kind)
        opened = vault().open_json(row.credentials_sealed, "gateway.credentials", shop.seller_id)
        if row.active:  # what its fake gave out stays, the rest is added
            opened = {each.name: f"canary-{row.kind}-{each.name}-7c1d" for each in edge.credentials} | opened
            row.credentials_sealed = vault().seal_json(opened, "gateway.credentials", shop.seller_id)
            _tell_the_company(line, row, opened)
        found |= {f"{row.kind} {name}": value for name, value in opened.items()}
        found[f"{row.kind} webhook secret"] = get_webhook_url(row).rpartition("/")[2]
    return found


def _tell_the_company(line: Line, row: Gateway, given: dict[str, str]) -> None:
    if row.kind == "woovi":
        line.world.woovi.set_webhook(given["app_id"], get_webhook_url(row), authorization=given["webhook_token"])
    if row.kind == "pushinpay":
        line.world.pushinpay.add_account(given["token"], given["webhook_token"])


def _people(line: Line, shop: Shop) -> dict[str, str]:
    with line.seller(shop.seller_id):
        seller = db.session.get_one(Seller, shop.seller_id)
        seller.document, seller.address = SELLER.values()
        email = seller.email
        db.session.commit()
    people = {f"person's {name}": value for name, value in PERSON.items()}
    return (
        people
        | SAID
        | PAYER
        | SHARED
        | BROWSER
        | SELLER
        | {"seller's e-mail": email, "ad click": "IwAR0canaryclick77", "knocker's address": "198.51.100.144"}
    )


# What happens to them -------------------------------------------------------------------------------------------------


def sell_in_a_storm(cage: Cage) -> None:
    """Each stage fails first, its error full of canaries; then the sale is made."""
    line, world, shop = cage.line, cage.line.world, cage.shop
    _sell_a_group_too(cage)
    person = world.telegram.person(**PERSON)
    _let_companies_fail(cage)
    person.start(shop.token, _click(cage))
    line.work()
    line.pass_time(5)
    _say_everything(cage, person)
    person.tap(shop.token, person.wait_button(shop.token, "Curso Completo", 60))
    line.work()
    world.pushinpay.fail("/transactions/", how=Status(500, {"message": cage.quoted("pushinpay token")}))
    _pay(cage)
    until(lambda: shop.payments()[0]["status"] == "paid", 60)
    line.work()
    line.pass_time(90)
    line.work()
    line.pass_time(400)
    line.work()
    cage.canaries["notice token"] = shop.payments()[0]["webhook_token"]
    cage.canaries["group invitation"] = until(lambda: _invitations(person, shop), 60)[0]


def _invitations(person: Person, shop: Shop) -> list[str]:
    urls = [button.url or "" for message in person.messages(shop.token) for button in message.buttons]
    return [url for url in urls if "t.me/+" in url]


def _sell_a_group_too(cage: Cage) -> None:
    group = cage.line.world.telegram.group("Alunos", admins=[cage.line.world.telegram.bots[cage.shop.token]])
    cage.line.change(
        "update offer set delivers = delivers || jsonb_build_array(jsonb_build_object("
        "'kind', 'group', 'chat_id', cast(:chat as bigint), 'days', null)) where seller_id = :seller",
        chat=group.id,
        seller=cage.shop.seller_id,
    )


def _let_companies_fail(cage: Cage) -> None:
    world = cage.line.world
    no = {"ok": False, "error_code": 400, "description": f"Bad Request: {cage.quoted('bot token')}"}
    meta = {"error": {"message": cage.all_of_it(), "type": "OAuthException", "code": 190}}
    world.telegram.fail("/sendMessage", how=Status(502, no | {"error_code": 502}))
    world.pushinpay.fail("/pix/cashIn", how=Status(422, {"message": cage.quoted("pushinpay token")}))
    world.meta.fail("/events", how=Status(400, meta))


def _click(cage: Cage) -> str:
    headers = {
        "User-Agent": BROWSER["user agent"],
        "X-Forwarded-For": BROWSER["visitor's address"],
        "Referer": BROWSER["referrer"],
        "Cookie": f"_fbp={BROWSER['browser id']}",
    }
    query = {
        "utm_source": "ig",
        "fbclid": cage.canaries["ad click"],
        "email": SAID["e-mail"],
        "access_token": cage.canaries["pixel token"],
    }
    address = f"{cage.line.url}/go/{cage.shop.slug}"
    click = cage.note(requests.get(address, query, headers=headers, allow_redirects=False, timeout=10))
    return click.headers["Location"].partition("?start=")[2]


def _say_everything(cage: Cage, person: Person) -> None:
    bot = cage.shop.token
    person.say(bot, " ".join(SAID.values()))
    person.start(bot, SHARED["start payload"])
    contact = {"phone_number": SHARED["contact's phone"], "first_name": SHARED["contact's name"], "user_id": person.id}
    person.send(bot, contact=contact)
    photo = {"file_id": "AgAC", "file_unique_id": "AQAD", "width": 90, "height": 90}
    person.send(bot, photo=[photo], caption=SHARED["caption"])
    where = {"latitude": -19.9, "longitude": -43.9}
    person.send(bot, venue={"location": where, "title": "Casa", "address": SHARED["place"]}, location=where)
    cage.line.work()
    shown = person.wait_button(bot, "Curso Completo", 60)
    person.tap(bot, Button("x", {"callback_data": SHARED["callback data"]}, shown.message))
    cage.line.work()


def _pay(cage: Cage) -> None:
    world = cage.line.world
    until(lambda: [*world.woovi.charges, *world.pushinpay.charges], 60)
    payer = {
        "name": PAYER["payer's name"],
        "taxID": {"taxID": PAYER["payer's cpf"]},
        "email": PAYER["payer's e-mail"],
        "phone": PAYER["payer's phone"],
    }
    for charge in list(world.woovi.charges.values()):
        world.woovi.send_notice(charge, signature="wrong", changes={"customer": payer})
        world.woovi.pay(charge)
    fields = {
        "payer_name": PAYER["payer's name"],
        "payer_national_registration": PAYER["payer's cpf"],
        "pix_key": SAID["pix key"],
    }
    for charge in list(world.pushinpay.charges):
        world.pushinpay.send_notice(charge, changes=fields)
        world.pushinpay.pay(charge)


def knock(cage: Cage) -> None:
    """Secrets where they do not belong: in paths, queries, headers and forms."""
    url, songs = cage.line.url, cage.canaries
    at = {"X-Forwarded-For": songs["knocker's address"]}
    known = [songs[name] for name in ("made-up secret", "woovi webhook secret", "bot token", "invitation", "api key")]
    for secret in known:
        for path in ("/webhook/woovi/", "/webhook/", "/tg/", "/go/", "/convite/x", "/api/v1/"):
            cage.note(requests.post(f"{url}{path}{secret}", f"not json {SAID['cpf']}", headers=at, timeout=10))
            requests.get(f"{url}{path}{secret}?t={secret}", headers={"Accept": "text/html"} | at, timeout=10)
    headers = {
        "Authorization": f"Bearer {songs['api key']}",
        "X-Telegram-Bot-Api-Secret-Token": songs["telegram secret"],
        "x-pushinpay-token": songs["pushinpay webhook_token"],
    }
    cage.note(requests.get(f"{url}/health", headers=headers, timeout=10))
    cage.note(requests.get(f"{url}/health", auth=("x", songs["made-up secret"]), timeout=10))
    report = {"csp-report": {"blocked-uri": f"https://x/{songs['invitation']}"}}
    cage.note(requests.post(f"{url}/csp", json=report, timeout=10))
    for _ in range(12):
        log_in(cage, "nobody@example.org", WRONG_PASSWORD)


# Where they are listened for ------------------------------------------------------------------------------------------


def in_the_database(cage: Cage) -> dict[str, list[str]]:
    """Which are heard in which column, of the job engine's tables too, but those that may be."""
    found = {}
    for column, values in _columns(cage.line):
        open_here = [name for name, places in IN_THE_OPEN.items() if column in places]
        if names := heard(cage.songs(*open_here), values):
            found[column] = names
    return found


def _columns(line: Line) -> list[tuple[str, str]]:
    tables = line.rows("select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace")
    columns = []
    for table in (row["relname"] for row in tables):
        rows = [row["row"] for row in line.rows(f'select to_jsonb(t) as row from "{table}" t')]
        for name in rows[0] if rows else ():
            values = "\n".join(json.dumps(row[name], ensure_ascii=False) for row in rows)
            columns.append((f"{table}.{name}", values))
    return columns


def in_pages(cage: Cage) -> dict[str, list[str]]:
    """Which are heard by whom on any page without an argument but the shop's: owner, another's, operator, nobody."""
    seen = {}
    for who, html in _pages(cage).items():
        wild = cage.songs(*SHOWN.get(who, ()))
        if names := heard(wild, html):
            seen[f"pages of {who}"] = names
    return seen


def _pages(cage: Cage) -> dict[str, str]:
    line, shop = cage.line, cage.shop
    other = open_shop(line)
    emails = _let_in(line, shop, other)
    people = {"owner": shop, "other": other, "operator": shop}
    pages = {}
    for who, theirs in people.items():
        browser = log_in(cage, emails[who], PASSWORD)
        cage.canaries[f"session of {who}"] = browser.cookies["panel"].rpartition(".")[2]
        pages[who] = _visit(cage, browser, theirs)
    pages["nobody"] = _visit(cage, requests.Session(), shop)
    return pages


def _let_in(line: Line, shop: Shop, other: Shop) -> dict[str, str]:
    with line.app.app_context():
        role = db.session.scalar(select(Role).filter_by(name="operator")) or Role(name="operator")
        sellers.add_user("olga@example.net", PASSWORD, role)
        look_across_sellers()
        owners = 'select m.seller_id, u.email from membership m join "user" u on u.id = m.user_id'
        emails = {row.seller_id: row.email for row in db.session.execute(text(owners))}
        for email in emails.values():
            user = db.session.scalars(select(User).filter_by(email=email)).one()
            user.password = sellers.hash_password(PASSWORD)
        db.session.execute(text("delete from allowance"))
        db.session.commit()
    return {"owner": emails[shop.seller_id], "other": emails[other.seller_id], "operator": "olga@example.net"}


def log_in(cage: Cage, email: str, password: str) -> requests.Session:
    browser = requests.Session()
    browser.headers["Accept"] = "text/html"
    page = browser.get(f"{cage.line.url}/login", timeout=10)
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert found
    form = {"email": email, "password": password, "csrf_token": found[1]}
    cage.note(browser.post(f"{cage.line.url}/login", form, timeout=10, allow_redirects=False))
    return browser


def _visit(cage: Cage, browser: requests.Session, shop: Shop) -> str:
    values: dict[str, Any] = {"seller_id": shop.seller_id, "bot_id": shop.bot_id}
    values["payment_id"] = cage.shop.payments()[0]["payment_id"]
    seen = []
    for rule in cage.line.app.url_map.iter_rules():
        if "GET" in (rule.methods or set()) and rule.arguments <= set(values):
            built = rule.build({name: values[name] for name in rule.arguments})
            assert built
            answer = browser.get(f"{cage.line.url}{built[1]}", headers={"Accept": "text/html"}, timeout=20)
            seen.append(f"{rule}: {told(answer)}")
    return "\n".join(seen)
