"""Two sellers on one installation: every route, every method, every kind of visitor, with everything of the other's.

`WHO` says whom each route answers. A route that is not in it, or has an argument that nobody thought of, fails here.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.exc import OperationalError
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from bot_manager.ops.postgres import Urls
from bot_manager.ops.schema import engine_url
from bot_manager.security.vault import new_secret
from bot_manager.settings import Settings
from models import (
    Base,
    Bot,
    Click,
    Customer,
    Door,
    DoorKind,
    Gateway,
    Link,
    Login,
    Message,
    Payment,
    User,
    db,
)
from tests import panel_world
from tests.panel_world import Browser, Cast, World
from tests.rows import hashes

EVERYBODY = "everybody"
COMPANIES = "companies"  # who knows the secret in the path or a header; to all others it does not exist
USERS = "users"  # whoever is logged in, about themselves
MEMBERS = "members"  # of the shop in the address; to all others it does not exist
OPERATORS = "operators"

WHO = {
    "asset": EVERYBODY,
    "csp": EVERYBODY,
    "health.health": EVERYBODY,
    "public.privacy": EVERYBODY,
    "redirect.go": EVERYBODY,
    "panel.index": EVERYBODY,
    "panel.theme": EVERYBODY,
    "panel.invitation": EVERYBODY,
    "security.login": EVERYBODY,
    "security.logout": EVERYBODY,
    "webhooks.notice": COMPANIES,
    "intake.update": COMPANIES,
    "panel.choose": USERS,
    "start.index": USERS,
    "account.index": USERS,
    "account.password": USERS,
    "account.end": USERS,
    "account.end_all": USERS,
    "shop.home.index": MEMBERS,
    "shop.home.live": MEMBERS,
    "shop.sales.index": MEMBERS,
    "shop.sales.one": MEMBERS,
    "shop.bots.index": MEMBERS,
    "shop.gateways.index": MEMBERS,
    "shop.books.index": MEMBERS,
    "shop.books.book": MEMBERS,
    "shop.chat.first": MEMBERS,
    "shop.chat.show": MEMBERS,
    "shop.chat.say": MEMBERS,
    "shop.chat.approve": MEMBERS,
    "shop.chat.qr": MEMBERS,
    "operator.letters.index": OPERATORS,
    "operator.letters.again": OPERATORS,
    "operator.letters.begin": OPERATORS,
    "operator.letters.preview": OPERATORS,
    "operator.letters.batch": OPERATORS,
    "operator.letters.stop": OPERATORS,
    "operator.security.index": OPERATORS,
}
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND")
SAFE = {"GET", "HEAD", "OPTIONS"}
FOREIGN = ("https://evil.example", "null", "http://localhost.evil.example", "http://localhost:81")


@dataclass(frozen=True)
class Two:
    """Ana's shop, which sells, and Caio's; `of_ana`: an id of each of her things, by the name arguments have."""

    cast: Cast
    of_ana: dict[str, Any]
    of_caio: dict[str, Any]


@pytest.fixture(scope="module")
def two(panel: World) -> Two:
    cast = panel.cast()
    return Two(cast, _things(panel, cast.shop, cast.ana), _things(panel, cast.other, cast.caio))


def _things(panel: World, shop: panel_world.Shop, email: str) -> dict[str, Any]:
    """A month of sales, a test chat of its owner's in which something was bought, and the ids of it all."""
    with panel.acting(shop):
        panel_world.fill(shop, datetime.now(UTC), a_day=1)
        user = db.session.scalars(select(User).filter_by(email=email)).one()
        bot = db.session.get_one(Bot, shop.bot_id)
        for text_ in ("start", f"buy:{shop.offer_id}"):
            kind = "start" if text_ == "start" else "tap"
            panel_world.hear(bot, "panel", f"user-{user.id}", f"panel:{uuid.uuid4()}", {"kind": kind, "text": text_})
        customer = db.session.scalars(select(Customer).filter_by(chat_id=f"user-{user.id}")).one()
        messages = db.session.scalars(select(Message.id).filter_by(customer_id=customer.id).order_by(Message.id)).all()
        payment = db.session.scalars(select(Payment).filter_by(customer_id=customer.id)).one()
        real = db.session.scalars(select(Gateway).filter_by(kind="woovi")).one()
        link = db.session.scalars(select(Link)).one()
        panel_world.logins.begin(user.id, "Chrome", "203.0.113.9")
        panel_world.add(Door(kind=DoorKind.LINK, key=link.slug, seller_id=shop.id, object_id=link.id))
        db.session.flush()
        login = db.session.scalars(select(Login.id).filter_by(user_id=user.id)).first()
        click = db.session.scalars(select(Click.tracking_token)).one()
        things = {
            "seller_id": shop.id,
            "bot_id": shop.bot_id,
            "payment_id": payment.payment_id,
            "payment": payment.payment_id,
            "message_id": messages[-1],
            "login_id": login,
            "user_id": user.id,
            "customer_id": customer.id,
            "offer_id": shop.offer_id,
            "gateway_id": real.id,
            "webhook_token": payment.webhook_token,
            "tracking_token": click,
            "slug": link.slug,
            "public_id": bot.public_id,
            "secret": new_secret(),  # nobody knows it
        }
        db.session.commit()
        return things


@pytest.fixture(scope="module")
def owner(panel_database: Urls) -> Iterator[Engine]:
    engine = create_engine(engine_url(panel_database.owner))
    yield engine
    engine.dispose()


NOBODYS = {"kind": "woovi", "version": "v", "path": "css/tokens.css", "batch_id": 1}  # the same for all


def _rules(panel: World) -> list[Rule]:
    return list(panel.app.url_map.iter_rules())


def _address(panel: World, rule: Rule, things: dict[str, Any]) -> str:
    values = {name: things.get(name, NOBODYS.get(name)) for name in rule.arguments}
    untold = [name for name, value in values.items() if value is None]
    assert not untold, f"{rule}: what of the other seller's is {untold}? Say so in this test."
    built = rule.build(values)
    assert built
    return built[1]


def _ways(panel: World, rule: Rule, two: Two) -> dict[str, tuple[str, dict[str, Any]]]:
    """Ana's own address; Caio's address with Ana's things below it; Caio's own, with hers in query and form."""
    hers = {name: str(value) for name, value in two.of_ana.items()}
    said = {"tap": f"{uuid.uuid4()} buy:{two.of_ana['offer_id']}", "start": str(uuid.uuid4()), "event_key": "x"}
    mixed = _address(panel, rule, two.of_ana | {"seller_id": two.of_caio["seller_id"]})
    ways = {"hers": (_address(panel, rule, two.of_ana), {}), "mixed": (mixed, {})}
    ways["his, with hers inside"] = (_address(panel, rule, two.of_caio), {"query_string": hers, "data": hers | said})
    return ways


def _ask(browser: Browser, method: str, path: str, **options: Any) -> TestResponse:
    """As a well-made form of ours would."""
    if method == "POST":
        return browser.post(path, options.pop("data", None), **options)
    return panel_world._apart(browser.client.open, path, method=method, headers={"Accept": "text/html"}, **options)


def _endpoints(panel: World) -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for rule in _rules(panel):
        found.setdefault(rule.endpoint, []).append(rule)
    return found


def test_every_route_says_whom_it_answers(panel: World) -> None:
    assert {rule.endpoint for rule in _rules(panel)} == set(WHO)


def _visitors(panel: World, cast: Cast) -> dict[str, Browser]:
    roles = {"nobody": None, "caio": cast.caio, "bia": cast.bia, "ana": cast.ana, "olga": cast.olga}
    return {name: panel.client(email) for name, email in roles.items()}


@pytest.mark.parametrize("endpoint", sorted(WHO))
def test_looking_changes_nothing_and_shows_each_their_own(panel: World, two: Two, owner: Engine, endpoint: str) -> None:
    """GET, HEAD and OPTIONS by everybody, at every address: all tables byte for byte the same."""
    but = {"click"} if endpoint == "redirect.go" else set()
    before = hashes(owner, but=but)
    for rule in _endpoints(panel)[endpoint]:
        for who, browser in _visitors(panel, two.cast).items():
            for way, (path, options) in _ways(panel, rule, two).items():
                for method in sorted(SAFE & (rule.methods or set())):
                    if method != "GET" and (who, way) != ("caio", "hers"):
                        continue
                    query = {"query_string": options["query_string"]} if options else {}
                    answer = _ask(browser, method, path, **query)
                    check_headers(answer)
                    if method == "GET":
                        _is_right(endpoint, who, way, answer)
    assert hashes(owner, but=but) == before


def _is_right(endpoint: str, who: str, way: str, answer: TestResponse) -> None:
    told = f"{endpoint} by {who} at {way}: {answer.status_code}"
    to_login = answer.status_code == 302 and (answer.location or "").startswith("/login")
    match WHO[endpoint], who:
        case (("users" | "members" | "operators"), "nobody"):
            assert to_login, told
        case "members", ("caio" | "olga") if way == "hers":
            assert answer.status_code == 404, told
        case "members", "caio" if way == "mixed" and endpoint in ("shop.chat.show", "shop.chat.qr", "shop.sales.one"):
            assert answer.status_code == 404, told
        case "members", ("ana" | "bia" | "olga") if way != "hers":
            assert answer.status_code == 404, told
        case "members", "bia" if endpoint == "shop.chat.qr":
            assert answer.status_code == 404, told  # a test chat is its speaker's own
        case "operators", ("caio" | "bia" | "ana"):
            assert answer.status_code == 404, told
        case "companies", _:
            raise AssertionError("no company looks")
        case _:
            assert answer.status_code < 400 or endpoint in MAY_BE_MISSING, told


MAY_BE_MISSING = {"panel.invitation", "redirect.go", "operator.letters.batch"}


@pytest.mark.parametrize("endpoint", sorted(WHO))
@pytest.mark.parametrize("who", ["nobody", "caio", "olga"])
def test_nothing_a_stranger_sends_changes_anything_of_hers(
    panel: World, two: Two, owner: Engine, endpoint: str, who: str
) -> None:
    """Every method, with her ids in path, query and form."""
    before = hashes(owner, two.cast.shop.id)
    users = _people(owner)
    browser = _visitors(panel, two.cast)[who]
    for rule in _endpoints(panel)[endpoint]:
        taken = {method for one in _rules(panel) if one.rule == rule.rule for method in one.methods or ()}
        for way, (path, options) in _ways(panel, rule, two).items():
            for method in METHODS if way == "hers" else ("POST",):
                if (
                    method in SAFE
                    or method in taken - (rule.methods or set())
                    or (endpoint in ENDS_ONESELF and method == "POST")
                ):
                    continue
                answer = _ask(browser, method, path, **options)
                check_headers(answer)
                told = f"{method} {path} by {who}: {answer.status_code}"
                if method not in taken:
                    assert answer.status_code == 405, told
                    assert answer.headers["Allow"], told
                elif WHO[endpoint] == MEMBERS and (who == "olga" or way in ("hers", "mixed")):
                    assert answer.status_code == (302 if who == "nobody" else 404), told
                elif WHO[endpoint] == COMPANIES:
                    assert answer.status_code == 404, told
                else:
                    assert answer.status_code < 500, told
    assert hashes(owner, two.cast.shop.id) == before
    assert _people(owner) == users


ENDS_ONESELF = {"security.logout", "account.end_all", "start.index"}


def _people(owner: Engine) -> dict[str, str]:
    return {name: told for name, told in hashes(owner).items() if name in ("user", "membership", "door", "roles_users")}


# Forms that are not ours --------------------------------------------------------------------------------------------


def _forms(panel: World) -> list[Rule]:
    machines = {"csp", "webhooks.notice", "intake.update"}
    return [rule for rule in _rules(panel) if "POST" in (rule.methods or set()) and rule.endpoint not in machines]


def test_no_form_is_taken_without_its_token(panel: World, two: Two, owner: Engine) -> None:
    with owner.begin() as connection:
        connection.execute(text("delete from allowance"))  # else earlier guesses at invitations are in the way
    before = hashes(owner)
    for rule in _forms(panel):
        for email in (two.cast.ana, two.cast.olga):
            answer = panel.client(email).client.post(_address(panel, rule, two.of_ana), data=two.of_ana)
            allowed = {400, 404, 410, 422} | ({302} if rule.endpoint in ("security.login", "start.index") else set())
            assert answer.status_code in allowed, f"{rule}: {answer.status_code}"
    assert hashes(owner) == before


@pytest.mark.parametrize("origin", FOREIGN)
def test_no_form_is_taken_from_another_site_even_with_its_token(
    panel: World, two: Two, owner: Engine, origin: str
) -> None:
    before = hashes(owner)
    for rule in _forms(panel):
        ana = panel.client(two.cast.ana)
        ana.client.environ_base.update(HTTP_ORIGIN=origin)
        answer = ana.post(_address(panel, rule, two.of_ana), {"password": "outra frase bem boa", "tema": "claro"})
        assert answer.status_code in (400, 410), f"{rule}: {answer.status_code}"
    assert hashes(owner) == before


def test_our_own_origin_is_ours(panel: World, two: Two) -> None:
    for origin in ("http://localhost", panel.app.extensions["settings"].address):
        ana = panel.client(two.cast.ana)
        ana.client.environ_base.update(HTTP_ORIGIN=origin)
        assert ana.post("/tema", {"tema": "claro"}).status_code == 303


# More fields than a form has ----------------------------------------------------------------------------------------


def test_fields_that_a_form_does_not_have_change_nothing(panel: World, owner: Engine) -> None:
    """Every column of every table, sent along with each form: the rows made are as without them."""
    columns = {column.name for table in Base.metadata.tables.values() for column in table.columns}
    extra = [*sorted(columns - {"name", "email", "text", "password"}), "is_admin", "roles", "is_operator"]
    plain = _walk(panel, owner, {})
    for begin in range(0, len(extra), 80):  # a form may have a hundred fields
        assert _walk(panel, owner, dict.fromkeys(extra[begin : begin + 80], "1")) == plain


def _walk(panel: World, owner: Engine, more: dict[str, str]) -> list[Any]:
    """A user makes a shop, talks to its bot and changes their password; answers what is there then, without ids."""
    email = f"dora-{uuid.uuid4().hex[:8]}@example.com"
    with panel.app.app_context():
        user_id = panel.user(email)
        db.session.commit()
    dora = panel.client(email)
    dora.post("/comece", {**more, "name": "Loja da Dora", "email": email, "example": "y"})
    (shop,) = _told(owner, "select s.* from seller s where email = :it", it=email)
    bots = _told(owner, "select * from bot where seller_id = :it", it=shop["id"])
    chat = f"/loja/{shop['id']}/bots/{bots[0]['id']}/conversa"
    dora.post(chat, {**more, "event_key": str(uuid.uuid4()), "text": "/start"})
    dora.post("/conta/senha", {**more, "old": panel_world.PASSWORD, "password": "outra frase bem boa"})
    users = _told(owner, 'select * from "user" where id = :it', it=user_id)
    roles = _told(owner, "select * from roles_users where user_id = :it", it=user_id)
    members = _told(
        owner, "select * from membership where user_id = :it or seller_id = :shop", it=user_id, shop=shop["id"]
    )
    heard = _told(owner, "select * from inbox where seller_id = :it", it=shop["id"])
    sales = _told(owner, "select * from payment where seller_id = :it", it=shop["id"])
    same = ("name", "timezone", "document", "turn", "active", "role", "key", "test", "state", "pix_minutes", "channel")
    return [
        [{name: row.get(name) for name in same} for row in rows]
        for rows in ([shop], bots, users, roles, members, heard, sales)
    ]


def _told(owner: Engine, sql: str, **values: Any) -> list[dict[str, Any]]:
    with owner.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(text(sql), values)]


# Row-level security, taken away ---------------------------------------------------------------------------------------

SEEN = "select count(*) filter (where {0} = :other) from {1}"


@pytest.mark.parametrize(
    "table",
    sorted(
        {*(t for t in Base.metadata.tables)}
        & {
            "seller",
            "bot",
            "bot_offer",
            "charge_attempt",
            "click",
            "conversion",
            "customer",
            "delivery",
            "destination",
            "gateway",
            "inbox",
            "link",
            "message",
            "offer",
            "payment",
            "payment_event",
            "webhook_receipt",
        }
    ),
)
def test_without_its_policy_a_table_would_show_the_other_sellers_rows(
    panel_database: Urls, two: Two, owner: Engine, table: str
) -> None:
    """So it is the policy that hides them, table by table, and this crawl that would see it gone."""
    app = create_engine(engine_url(panel_database.app))
    count = text(SEEN.format("id" if table == "seller" else "seller_id", table))

    def seen() -> int:
        with app.connect() as connection:
            connection.execute(text("select set_config('app.seller', :it, true)"), {"it": str(two.cast.other.id)})
            return int(connection.execute(count, {"other": two.cast.shop.id}).scalar_one())

    assert seen() == 0
    with owner.begin() as taking_away:
        taking_away.execute(text(f"alter table {table} disable row level security"))
    try:
        assert seen() > 0
    finally:
        with owner.begin() as giving_back:
            giving_back.execute(text(f"alter table {table} enable row level security"))
        app.dispose()


# Headers ------------------------------------------------------------------------------------------------------------


def test_errors_carry_the_headers_too(panel: World, two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """413, 415, 404, 405, 500 and 503, asked for by people and by machines."""
    home = f"/loja/{two.cast.shop.id}/"

    def broken(error: Exception) -> Any:
        def view(**_: Any) -> Any:
            raise error

        return view

    for accept in ("text/html", "application/json"):
        ana = panel.client(two.cast.ana)
        ask = ana.client.open
        headers = {"Accept": accept}
        codes = []
        for options in (
            {"path": "/login", "method": "POST", "data": b"x" * 300_000},
            {"path": "/login", "method": "POST", "data": b"{}", "content_type": "application/json"},
            {"path": "/nowhere"},
            {"path": "/static/x/none.css"},
            {"path": "/login", "method": "PUT"},
        ):
            answer = ask(headers=headers, **options)
            check_headers(answer)
            codes.append(answer.status_code)
        for error in (RuntimeError("x"), OperationalError("select", {}, Exception("gone"))):
            with monkeypatch.context() as patch:
                patch.setitem(panel.app.view_functions, "shop.home.index", broken(error))
                answer = ask(home, headers=headers)
            check_headers(answer)
            codes.append(answer.status_code)
        assert codes == [413, 415, 404, 404, 405, 500, 503]


def test_on_https_every_cookie_and_answer_holds_to_https(panel_database: Urls, tmp_path: Any, two: Two) -> None:
    world = World(Settings(database_url=panel_database.app, keys_dir=tmp_path, public_url="https://shop.example.com"))
    browser = world.client(two.cast.ana)
    for path in ("/login", "/nowhere", "/conta", f"/loja/{two.cast.shop.id}/", "/health"):
        answer = panel_world._apart(browser.client.get, path, base_url="https://shop.example.com")
        check_headers(answer, https=True)
    world.close()


@pytest.mark.parametrize(
    "elsewhere",
    [
        "//evil.example",
        "/\\evil.example",
        "https:evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "http:///evil.example",
        "https://localhost@evil.example/",
    ],
)
def test_no_way_leads_to_another_site(panel: World, two: Two, elsewhere: str) -> None:
    for path, form in (
        ("/login", {"email": two.cast.ana, "password": panel_world.PASSWORD, "next": elsewhere}),
        ("/login?next=" + quote(elsewhere), {"email": two.cast.ana, "password": panel_world.PASSWORD}),
        ("/tema", {"tema": "claro", "volta": elsewhere}),
    ):
        location = panel.client().post(path, form).location or "/"
        assert urlsplit(location.replace("\\", "/").replace("\t", "")).netloc in ("", "localhost"), (
            f"{path}: {location!r}"
        )
        assert not location.startswith(("javascript:", "//")), location
    assert panel.client().get(f"/go/{quote(elsewhere, safe='')}", follow_redirects=True).status_code == 404


def check_headers(answer: TestResponse, https: bool = False) -> None:
    """What every answer of ours must carry, whatever it says."""
    told = f"{answer.request.method} {answer.request.path}: {answer.status_code}"
    headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'"), told
    assert "frame-ancestors 'none'" in policy, told
    assert not any(word in policy for word in ("unsafe", "*", "http:")), told
    assert headers["X-Content-Type-Options"] == "nosniff", told
    assert headers["Referrer-Policy"] in ("same-origin", "no-referrer"), told
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin", told
    assert ("Strict-Transport-Security" in headers) == https, told
    assert not [name for name, _ in headers if name.startswith("Access-Control-")], told
    assert "X-Powered-By" not in headers, told
    kind = headers.get("Content-Type", "")
    if answer.data and kind.partition(";")[0] in ("text/html", "text/plain", "text/css", "text/javascript"):
        assert "charset=utf-8" in kind, told
    assert kind or not answer.data, told
    if not answer.request.path.startswith("/static/"):
        kept = headers.get("Cache-Control", "")
        assert "no-store" in kept or (kind.startswith("image/svg+xml") and "private" in kept), told
    for cookie in headers.getlist("Set-Cookie"):
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path=/" in cookie, told  # noqa: PT018
        assert "Domain=" not in cookie, told
        assert ("Secure" in cookie) == https, told
        assert cookie.startswith("__Host-") or not https, told
