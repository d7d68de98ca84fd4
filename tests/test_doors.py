"""What is thrown at the doors, over real HTTP: whatever it is, nothing breaks, nothing changes, nothing is forgotten."""

from __future__ import annotations

import gzip
import json
import time
from http.client import HTTPConnection

import pytest
import requests

from bot_manager.addresses import get_webhook_url
from bot_manager.security import doors
from models import Gateway, db
from tests.line import Line
from tests.shops import Shop, open_shop

JSON = {"Content-Type": "application/json"}
MOST_S = 20.0  # for one answer: what hangs takes for ever

BODIES: dict[str, bytes] = {
    "empty": b"",
    "blank": b"  ",
    "null": b"null",
    "list": b"[1, 2]",
    "text": b"paid",
    "html": b"<html>paid</html>",
    "deep": b"[" * 100_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"id":' * 40_000,
    "many keys": b"{" + b",".join(b'"%d":1' % n for n in range(20_000)) + b"}",
    "many items": b"[" + b"1," * 120_000 + b"1]",
    "digits": b'{"value": ' + b"9" * 5000 + b"}",
    "nan": b'{"value": NaN}',
    "infinity": b'{"value": -Infinity}',
    "too large": b'{"value": 1e400}',
    "key twice": b'{"status": "created", "status": "paid"}',
    "lone surrogate": b'{"id": "\\ud800"}',
    "nul": b'{"id": "a\\u0000b"}',
    "raw nul": b"\x00",
    "bom": b'\xef\xbb\xbf{"id": "a"}',
    "utf-16": json.dumps({"status": "paid"}).encode("utf-16"),
    "utf-16 without its mark": json.dumps({"status": "paid"}).encode("utf-16-le"),
    "latin-1": '{"id": "é"}'.encode("latin-1"),
    "trailing data": b'{"id": "a"} {"status": "paid"}',
    "cut": b'{"status": "paid", "id": "',
    "comment": b'{"status": "paid"} // yes',
    "gzip": gzip.compress(b'{"status": "paid"}'),
    "bomb": gzip.compress(b" " * 10_000_000),
    "form twice": b"status=created&status=paid",
    "form of many fields": b"&".join(b"a%d=1" % n for n in range(5000)),
    "form with a broken percent": b"status=paid&id=%zz",
    "form with nul": b"status=paid&id=%00",
}
TOO_LARGE = b" " * (256 * 1024 + 1)
# In place of an amount: none of them is one.
AMOUNTS = [
    {"$gt": 0},
    True,
    [],
    [4990],
    "49,90",
    "49.90",
    49.9,
    "١٢٣",
    "４９９０",
    "1_0",
    " 4990",
    "0x137e",
    -4990,
    1e30,
    None,
]
QUERIES = [
    "t=a&t=b",
    "t=%zz",
    "t=%ff",
    "t=%00",
    "t",
    "&&&",
    "t=" + "a" * 3000,
    "%00=1",
    "t=1&%74=1",
    "&".join(["a=1"] * 500),
]


def notice_url(shop: Shop, kind: str) -> str:
    with shop.line.seller(shop.seller_id):
        return get_webhook_url(db.session.get_one(Gateway, shop.gateways[kind]))


def ask(line: Line, method: str, url: str, body: bytes = b"") -> int:
    """The answer's status; the address goes out as it is, where `requests` would mend it."""
    connection = HTTPConnection(line.url.removeprefix("http://"), timeout=MOST_S)
    try:
        connection.request(method, url.removeprefix(line.url), body)
        return connection.getresponse().status
    finally:
        connection.close()


def push(shop: Shop, body: bytes, **headers: str) -> requests.Response:
    secret = {"X-Telegram-Bot-Api-Secret-Token": telegram_secret(shop), **JSON, **headers}
    return requests.post(f"{shop.line.url}/tg/{shop.public_id}", data=body, headers=secret, timeout=MOST_S)


def telegram_secret(shop: Shop) -> str:
    with shop.line.app.app_context():
        return doors.telegram_secret(shop.public_id)


def bought(line: Line, *gateways: str) -> Shop:
    shop = open_shop(line, gateways=gateways)
    shop.buy(line.world.telegram.person())
    return shop


@pytest.fixture
def unharmed(line: Line):
    """However it is treated: nobody is paid, no message goes out, no job is left in the lurch."""
    before = {}

    def look() -> dict[str, list]:
        return {
            "payments": line.rows("select status, gateway_id, pix_code from payment order by id"),
            "messages": line.rows("select id, state from message order by id"),
            "customers": line.rows("select id, state from customer order by id"),
            "failed": line.rows("select id from procrastinate_jobs where status = 'failed'"),
        }

    def begin() -> None:
        before.update(look())

    yield begin
    line.work()
    assert look() == before


def test_whatever_a_notice_says_it_is_kept_raw_and_pays_nobody(line: Line, unharmed) -> None:
    shop = bought(line, "pushinpay")
    unharmed()
    url = notice_url(shop, "pushinpay")

    answers = {name: requests.post(url, data=b, headers=JSON, timeout=MOST_S).status_code for name, b in BODIES.items()}
    too_large = requests.post(url, data=TOO_LARGE, timeout=MOST_S).status_code

    assert {name: status for name, status in answers.items() if status != 200} == {}
    assert too_large == 413
    kept = line.rows("select state from webhook_receipt")
    # "list" and "text" are two bodies, "empty" is one: each is kept once.
    assert len(kept) == len(set(BODIES.values()))
    assert {row["state"] for row in kept} == {"unreadable"}


def test_a_notice_that_has_to_be_unpacked_is_kept_and_not_unpacked(line: Line, unharmed) -> None:
    shop = bought(line, "pushinpay")
    unharmed()
    charge = next(iter(line.world.pushinpay.charges))
    plain = json.dumps({"id": charge, "status": "paid", "value": 4990}).encode()

    for encoding, body in (
        ("gzip", gzip.compress(plain)),
        ("gzip", plain),
        ("br", plain),
        ("identity, deflate", plain),
    ):
        headers = {**JSON, "Content-Encoding": encoding}
        assert (
            requests.post(notice_url(shop, "pushinpay"), data=body, headers=headers, timeout=MOST_S).status_code == 200
        )

    assert {row["state"] for row in line.rows("select state from webhook_receipt")} == {"unreadable"}


def test_an_amount_that_is_none_pays_nobody(line: Line, unharmed) -> None:
    shop = bought(line, "pushinpay")
    unharmed()
    charge = next(iter(line.world.pushinpay.charges))

    for amount in AMOUNTS:
        body = {"id": charge, "status": "paid", "value": amount}
        assert requests.post(notice_url(shop, "pushinpay"), json=body, timeout=MOST_S).status_code == 200


def test_an_address_that_can_be_read_two_ways_is_kept_raw_and_pays_nobody(line: Line, unharmed) -> None:
    shop = bought(line, "pushinpay")
    charge = next(iter(line.world.pushinpay.charges.values()))
    charge.pay()  # the bank would say yes, if it were asked
    unharmed()
    url = notice_url(shop, "pushinpay")

    for query in QUERIES:
        if query.startswith("t=aaa"):
            continue  # readable, and nobody's
        body = json.dumps({"id": charge.id, "status": "paid", "value": 4990})
        assert ask(line, "POST", f"{url}?{query}", body.encode()) == 200, query

    kept = line.rows("select state, note from webhook_receipt")
    assert len(kept) == len(QUERIES) - 1
    assert {row["state"] for row in kept} == {"unreadable"}
    assert all("the address" in row["note"] for row in kept)


def test_an_unsigned_body_of_any_kind_is_refused_where_a_signature_is_due(line: Line, unharmed) -> None:
    shop = bought(line, "woovi")
    unharmed()
    url = notice_url(shop, "woovi")

    answers = {requests.post(url, data=body, headers=JSON, timeout=MOST_S).status_code for body in BODIES.values()}

    assert answers == {401}
    assert {row["state"] for row in line.rows("select state from webhook_receipt")} == {"forged"}


@pytest.mark.parametrize("header", ["x-webhook-signature", "authorization", "x-openpix-signature", "content-type"])
def test_a_header_of_strange_characters_is_only_wrong(line: Line, header: str) -> None:
    shop = open_shop(line, gateways=("woovi", "pushinpay"))
    odd = "\u00e9\u00ff" * 20

    for kind in shop.gateways:
        answer = requests.post(
            notice_url(shop, kind), data=b"{}", headers={header: odd.encode("latin-1")}, timeout=MOST_S
        )
        assert answer.status_code in (200, 401)
    assert push(shop, b"{}", **{"X-Telegram-Bot-Api-Secret-Token": odd}).status_code == 404


def test_whatever_telegram_pushes_is_kept_raw_and_starts_nothing(line: Line, unharmed) -> None:
    shop = bought(line, "pushinpay")
    unharmed()
    known = len(line.rows("select 1 from inbox"))

    answers = {name: push(shop, body).status_code for name, body in BODIES.items()}

    assert {name: status for name, status in answers.items() if status != 200} == {}
    assert push(shop, TOO_LARGE).status_code == 413
    kept = line.rows("select state from inbox order by id")[known:]
    assert [row["state"] for row in kept] == ["dead"] * len(set(BODIES.values()))


def test_an_update_that_has_to_be_unpacked_is_kept_and_not_unpacked(line: Line, unharmed) -> None:
    shop = bought(line, "pushinpay")
    unharmed()
    person = {"id": 77, "is_bot": False, "first_name": "Zé"}
    message = {"message_id": 1, "date": 1, "chat": {"id": 77, "type": "private"}, "from": person, "text": "/start"}
    update = json.dumps({"update_id": 9_000_001, "message": message}).encode()

    for body in (gzip.compress(update), update):
        assert push(shop, body, **{"Content-Encoding": "gzip"}).status_code == 200

    assert {row["state"] for row in line.rows("select state from inbox where event_key like 'unreadable:%'")} == {
        "dead"
    }


@pytest.mark.parametrize("numbered", [True, "7", "١", 1.5, 1e300, -1, 2**63, {"$gt": 0}, [], None], ids=repr)
def test_an_update_without_a_plain_number_is_kept_raw(line: Line, numbered: object) -> None:
    shop = open_shop(line)

    assert push(shop, json.dumps({"update_id": numbered, "message": {}}).encode()).status_code == 200
    assert [row["event_key"][:11] for row in line.rows("select event_key from inbox")] == ["unreadable:"]


def test_a_report_of_the_browser_says_anything_and_breaks_nothing(line: Line) -> None:
    strange = [
        b'{"csp-report": {"blocked-uri": "http://[", "effective-directive": "x"}}',
        b'{"csp-report": {"blocked-uri": {"$gt": 0}, "effective-directive": []}}',
        b'{"csp-report": []}',
        b'{"csp-report": null}',
    ]
    small = [body for body in [*BODIES.values(), *strange] if len(body) <= 16 * 1024]

    answers = {requests.post(f"{line.url}/csp", data=body, timeout=MOST_S).status_code for body in small}

    assert answers == {204}
    assert requests.post(f"{line.url}/csp", data=b" " * 17_000, timeout=MOST_S).status_code == 413


@pytest.mark.parametrize("query", QUERIES)
def test_a_link_of_an_ad_takes_any_query_and_sends_the_visitor_on(line: Line, query: str) -> None:
    shop = open_shop(line)

    named = query.replace("t=", "utm_source=")
    assert ask(line, "GET", f"{line.url}/go/{shop.slug}?{named}&fbclid=%00%ff%ed%a0%80") == 302


@pytest.mark.parametrize(
    "path", ["/login", "/tema", "/convite/x", "/comece", "/go/%00", "/tg/%ff", "/webhook/%00/%00", "/%ff"]
)
def test_a_form_of_any_bytes_is_told_no_by_the_panel(line: Line, path: str) -> None:
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"):
        for body in BODIES.values():
            answer = requests.post(
                f"{line.url}{path}", data=body, headers={"Content-Type": kind}, timeout=MOST_S, allow_redirects=False
            )
            assert answer.status_code < 500


def test_bad_bodies_are_answered_quickly(line: Line) -> None:
    """The worst of them costs less than a tenth of a second of this process, the keeping included."""
    shop = open_shop(line)
    url = notice_url(shop, "pushinpay")
    started = time.process_time()

    for body in BODIES.values():
        requests.post(url, data=body, headers=JSON, timeout=MOST_S)

    assert (time.process_time() - started) / len(BODIES) < 0.1
