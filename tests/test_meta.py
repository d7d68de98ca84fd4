"""Meta's Conversions API: what is told, what each answer means, and how a call can fail."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import socket
import ssl
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import requests
import responses
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bot_manager.network import wire
from tracking.destinations import get, meta
from tracking.destinations.base import (
    Account,
    Ambiguous,
    ConversionEvent,
    Customer,
    DestinationError,
    DestinationMisconfigured,
    DestinationRefused,
    DestinationThrottled,
    DestinationUnreachable,
    EventName,
    Receipt,
    Visitor,
)

TOKEN = "EAAinventedTokenOfATest0123456789"
ACCOUNT = Account("https://graph.facebook.com", {"pixel_id": "1234567890", "access_token": TOKEN})
URL = "https://graph.facebook.com/v26.0/1234567890/events"
PAID_AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CLICK = Visitor(
    ip="203.0.113.7",
    user_agent="Mozilla/5.0 (Linux; Android 14) [FB_IAB/FB4A]",
    fbp="fb.1.1795348700000.1098115397",
    fbc="fb.1.1795348700000.IwAR2F4-dbP0l7Mn1IawQQGCINEz7PYXQvwjNwB_qa2ofrHyiLjcbCRxTDMgk",
    source_url="https://loja.example.com/go/promo?fbclid=IwAR2F4&email=ana@example.com#x",
)
ANA = Customer("Ana@Example.com", "(84) 8123-4567", "Ana", "D'Ávila", "customer-7", "Brasil")
SALE = ConversionEvent(EventName.PURCHASE, "evt-1", PAID_AT, 4990, "BRL", CLICK, ANA, "order-1", "offer-1")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def changed(event: ConversionEvent = SALE, **changes) -> ConversionEvent:
    return dataclasses.replace(event, **changes)


# What is told


def test_sale_is_told_with_everything_that_was_known():
    assert get("meta").build(SALE) == {
        "event_name": "Purchase",
        "event_id": "evt-1",
        "event_time": 1795348800,
        "action_source": "website",
        "event_source_url": "https://loja.example.com/go/promo",
        "user_data": {
            "client_ip_address": "203.0.113.7",
            "client_user_agent": CLICK.user_agent,
            "fbp": CLICK.fbp,
            "fbc": CLICK.fbc,
            "em": [sha("ana@example.com")],
            "ph": [sha("558481234567"), sha("5584981234567")],
            "fn": [sha("ana")],
            "ln": [sha("dávila")],
            "external_id": [sha("customer-7")],
            "country": [sha("br")],
        },
        "custom_data": {
            "order_id": "order-1",
            "content_ids": ["offer-1"],
            "content_type": "product",
            "value": 49.9,
            "currency": "BRL",
        },
    }


def test_sale_without_a_click_is_one_of_the_chat():
    told = meta.destination.build(changed(visitor=Visitor()))

    assert told["action_source"] == "chat"
    assert "event_source_url" not in told


@pytest.mark.parametrize("missing", ["ip", "user_agent", "source_url"])
def test_click_that_is_known_in_part_is_not_called_a_website(missing: str):
    visitor = dataclasses.replace(CLICK, **{missing: None})

    assert meta.destination.build(changed(visitor=visitor))["action_source"] == "chat"


@pytest.mark.parametrize("ip", ["10.0.0.7", "192.168.1.1", "127.0.0.1", "100.64.0.1", "::1", "fd00::1", "unknown"])
def test_address_from_within_is_not_told(ip: str):
    user_data = meta.destination.build(changed(visitor=dataclasses.replace(CLICK, ip=ip)))["user_data"]

    assert "client_ip_address" not in user_data


def test_ipv6_address_is_told():
    told = meta.destination.build(changed(visitor=dataclasses.replace(CLICK, ip="2804:14d::1")))

    assert told["user_data"]["client_ip_address"] == "2804:14d::1"


def test_identifiers_that_are_none_are_left_out():
    visitor = dataclasses.replace(CLICK, fbp="a.b.c.d", fbc="fb.1.1795348700000.")
    user_data = meta.destination.build(changed(visitor=visitor))["user_data"]

    assert not {"fbp", "fbc"} & set(user_data)


def test_junk_about_the_customer_is_left_out_and_the_sale_still_told():
    junk = Customer("não informado", "123", "🌹", "", " ", "Atlântida")

    assert set(meta.destination.build(changed(customer=junk))["user_data"]) == {
        "client_ip_address",
        "client_user_agent",
        "fbp",
        "fbc",
    }


def test_same_sale_is_told_in_the_same_bytes_each_time():
    assert json.dumps(meta.destination.build(SALE)) == json.dumps(meta.destination.build(changed()))


@pytest.mark.parametrize(("cents", "value"), [(1, "0.01"), (4990, "49.9"), (1_000_000_07, "1000000.07"), (0, "0.0")])
def test_cents_become_the_exact_decimal(cents: int, value: str):
    assert json.dumps(meta.destination.build(changed(value_cents=cents))["custom_data"]["value"]) == value


def test_time_is_the_moment_itself_in_any_zone():
    brasilia = PAID_AT.astimezone(timezone(-timedelta(hours=3)))

    assert meta.destination.build(changed(event_time=brasilia))["event_time"] == 1795348800


def test_time_without_a_zone_is_a_mistake():
    with pytest.raises(ValueError, match="time zone"):
        changed(event_time=PAID_AT.replace(tzinfo=None))


@pytest.mark.parametrize("change", [{"value_cents": None}, {"value_cents": -1}, {"currency": None}, {"currency": "R$"}])
def test_purchase_without_money_is_refused_not_guessed(change: dict):
    with pytest.raises(DestinationRefused):
        meta.destination.build(changed(**change))


def test_other_events_need_no_money():
    told = meta.destination.build(changed(event_name=EventName.LEAD, value_cents=None, currency=None))

    assert told["event_name"] == "Lead"
    assert "value" not in told["custom_data"]


def test_event_that_tells_nobody_is_refused():
    nobody = changed(visitor=Visitor(user_agent="Mozilla/5.0"), customer=Customer(country="BR"))

    with pytest.raises(DestinationRefused):
        meta.destination.build(nobody)


def test_there_is_no_place_for_a_document():
    names = {field.name for kind in (ConversionEvent, Customer, Visitor) for field in dataclasses.fields(kind)}

    assert not {"cpf", "document", "tax_id"} & names


def test_who_it_was_is_not_in_what_a_log_would_show():
    shown = repr(SALE) + repr(ACCOUNT)

    assert not [secret for secret in ("Ana", "8123", "203.0.113.7", "Mozilla", TOKEN) if secret in shown]


# What answers mean


@pytest.fixture
def graph() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def send(*events: ConversionEvent, account: Account = ACCOUNT) -> Receipt:
    return meta.destination.send(account, events or (SALE,))


def failure(*events: ConversionEvent, account: Account = ACCOUNT) -> DestinationError:
    with pytest.raises(DestinationError) as caught:
        send(*events, account=account)
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    return caught.value


def test_events_taken_in_give_a_receipt(graph: responses.RequestsMock):
    graph.post(URL, json={"events_received": 1, "messages": [], "fbtrace_id": "AbC-1_2"})

    assert send() == Receipt("AbC-1_2")


def test_token_goes_in_the_header_only(graph: responses.RequestsMock):
    graph.post(URL, json={"events_received": 2, "fbtrace_id": "A"})
    send(SALE, changed(event_id="evt-2"))
    request = graph.calls[0].request

    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in request.url
    assert TOKEN.encode() not in request.body
    assert [event["event_id"] for event in json.loads(request.body)["data"]] == ["evt-1", "evt-2"]


def test_test_code_goes_with_test_accounts_only(graph: responses.RequestsMock):
    graph.post(URL, json={"events_received": 1, "fbtrace_id": "A"})
    send()
    send(account=dataclasses.replace(ACCOUNT, test_code="TEST123"))

    assert [json.loads(call.request.body).get("test_event_code") for call in graph.calls] == [None, "TEST123"]


@pytest.mark.parametrize(
    "answer", [{}, {"events_received": 0}, {"events_received": 2}, {"events_received": "1"}, [], "ok", None]
)
def test_yes_that_does_not_count_the_events_settles_nothing(graph: responses.RequestsMock, answer: object):
    graph.post(URL, json=answer)

    assert type(failure()) is Ambiguous


def error(code: int, subcode: int | None = None, **others) -> dict:
    inner = {"message": f"Malformed access token {TOKEN}", "type": "OAuthException", "code": code, "fbtrace_id": "T1"}
    return {"error": inner | ({"error_subcode": subcode} if subcode else {}) | others}


@pytest.mark.parametrize(
    ("status", "code", "subcode", "kind"),
    [
        (500, 1, None, Ambiguous),
        (400, 2, None, Ambiguous),
        (400, 1, 99, DestinationRefused),
        (400, 4, None, DestinationThrottled),
        (500, 17, None, DestinationThrottled),
        (400, 613, 1487742, DestinationThrottled),
        (400, 80000, None, DestinationThrottled),
        (400, 80004, None, DestinationThrottled),
        (400, 80014, None, DestinationThrottled),
        (400, 341, None, DestinationUnreachable),
        (400, 368, None, DestinationUnreachable),
        (500, 5000, None, DestinationUnreachable),
        (400, 21009, None, DestinationUnreachable),
        (400, 100, None, DestinationRefused),
        (400, 100, 2804003, DestinationRefused),
        (400, 100, 2804019, DestinationRefused),
        (400, 100, 2804066, DestinationRefused),
        (400, 100, 33, DestinationMisconfigured),
        (401, 190, None, DestinationMisconfigured),
        (400, 190, 460, DestinationMisconfigured),
        (400, 190, 463, DestinationMisconfigured),
        (400, 3, None, DestinationMisconfigured),
        (403, 10, None, DestinationMisconfigured),
        (403, 200, None, DestinationMisconfigured),
        (403, 294, None, DestinationMisconfigured),
        (400, 2635, None, DestinationMisconfigured),
        (400, 987654, None, DestinationUnreachable),
        (500, 987654, None, Ambiguous),
    ],
)
def test_each_of_metas_numbers_means_what_it_calls_for(
    graph: responses.RequestsMock, status: int, code: int, subcode: int | None, kind: type[DestinationError]
):
    graph.post(URL, json=error(code, subcode), status=status)
    found = failure()

    assert type(found) is kind
    assert found.trace_id == "T1"
    assert str(code) in str(found)


@pytest.mark.parametrize("code", [100, 190, 200])
def test_what_meta_calls_transient_is_tried_again_whatever_its_number(graph: responses.RequestsMock, code: int):
    graph.post(URL, json=error(code, is_transient=True), status=400)

    assert type(failure()) is DestinationUnreachable


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, "<html>", Ambiguous),
        (502, "", Ambiguous),
        (503, "{", Ambiguous),
        (200, "<html>", Ambiguous),
        (302, "", Ambiguous),
        (400, "<html>", DestinationUnreachable),
        (404, "[]", DestinationUnreachable),
        (429, "", DestinationThrottled),
        (400, '{"error": "text"}', DestinationUnreachable),
        (400, '{"error": {"code": [1], "error_subcode": {}, "fbtrace_id": 7}}', DestinationUnreachable),
        (400, "[" * 100_000, DestinationUnreachable),
    ],
)
def test_answer_that_is_not_metas_is_never_a_last_word(
    graph: responses.RequestsMock, status: int, body: str, kind: type[DestinationError]
):
    graph.post(URL, body=body, status=status, headers={"Location": "https://evil.example.com/"})

    assert type(failure()) is kind


def test_fixed_phrase_of_an_error_is_shown_and_free_text_is_not(graph: responses.RequestsMock):
    graph.post(URL, json=error(100, 2804003, error_user_title="Event Timestamp Too Old"), status=400)
    graph.post(URL, json=error(100, error_user_title=f"Bad {TOKEN}"), status=400)

    assert str(failure()) == "answered 400: 100/2804003: Event Timestamp Too Old"
    assert str(failure()) == "answered 400: 100"


@pytest.mark.parametrize(("minutes", "seconds"), [(0, 60), (5, 300), (600, 900)])
def test_throttled_account_waits_as_long_as_meta_says_within_bounds(
    graph: responses.RequestsMock, minutes: int, seconds: int
):
    usage = json.dumps({"1": [{"type": "ads", "call_count": 100, "estimated_time_to_regain_access": minutes}]})
    graph.post(URL, json=error(80004), status=400, headers={"X-Business-Use-Case-Usage": usage})
    found = failure()

    assert isinstance(found, DestinationThrottled)
    assert found.wait_seconds == seconds


def test_each_error_says_what_may_follow():
    says = {kind: (kind.permanent, kind.pauses, kind.unsent) for kind in DestinationError.__subclasses__()}

    assert says == {
        DestinationRefused: (True, False, True),
        DestinationMisconfigured: (False, True, True),
        DestinationUnreachable: (False, False, True),
        Ambiguous: (False, False, False),
    }


# Calls that fail


@pytest.mark.parametrize("credentials", [{}, {"pixel_id": "12/34", "access_token": TOKEN}, {"pixel_id": "1"}])
def test_account_that_can_not_be_right_is_not_even_tried(credentials: dict):
    assert type(failure(account=Account("https://graph.facebook.com", credentials))) is DestinationMisconfigured


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f" {TOKEN}", f"{TOKEN}é", "a b"])
def test_token_pasted_badly_is_the_sellers_to_mend(token: str):
    account = Account("https://graph.facebook.com", {"pixel_id": "1", "access_token": token})

    assert type(failure(account=account)) is DestinationMisconfigured


@pytest.mark.parametrize("count", [0, 1001])
def test_call_has_one_to_a_thousand_events(count: int):
    with pytest.raises(ValueError, match="events in one call"):
        meta.destination.send(ACCOUNT, [SALE] * count)


@pytest.mark.parametrize("url", ["nonsense", "http://", "http://a:b", "ftp://127.0.0.1"])
def test_address_that_is_none_is_not_called(url: str):
    assert type(failure(account=dataclasses.replace(ACCOUNT, base_url=url))) is DestinationUnreachable


def test_timeout_after_sending_is_ambiguous(graph: responses.RequestsMock):
    graph.post(URL, body=requests.ReadTimeout())

    assert type(failure()) is Ambiguous


@contextlib.contextmanager
def server(serve, context: ssl.SSLContext | None = None) -> Iterator[Account]:
    """An account at a server that handles one connection with `serve`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with listener.accept()[0] as client, contextlib.suppress(OSError):
            serve(context.wrap_socket(client, server_side=True) if context else client)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        scheme = "https" if context else "http"
        yield dataclasses.replace(ACCOUNT, base_url=f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        thread.join()
        listener.close()


def read_request(client: socket.socket) -> None:
    received = b""
    while b"}}]}" not in received:
        received += client.recv(65536)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta, "_adapter", wire.Adapter(wire.Bounds(read_s=0.2)))


@pytest.mark.usefixtures("impatient")
def test_server_that_does_not_answer_leaves_it_open():
    done = threading.Event()
    with server(lambda client: done.wait(5)) as account:
        found = failure(account=account)
        done.set()

    assert type(found) is Ambiguous


def test_server_that_hangs_up_after_the_request_leaves_it_open():
    with server(read_request) as account:
        assert type(failure(account=account)) is Ambiguous


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("length", [100, 2])
def test_answer_that_breaks_off_leaves_it_open(length: int):
    def serve(client: socket.socket) -> None:
        read_request(client)
        client.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + b'{"')

    with server(serve) as account:
        assert type(failure(account=account)) is Ambiguous


def test_redirect_is_not_followed():
    def serve(client: socket.socket) -> None:
        read_request(client)
        client.sendall(b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")

    with server(serve) as account:
        assert type(failure(account=account)) is Ambiguous


def test_port_where_nobody_listens_is_provably_unsent():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    assert (
        type(failure(account=dataclasses.replace(ACCOUNT, base_url=f"http://127.0.0.1:{port}")))
        is DestinationUnreachable
    )


def test_server_with_a_certificate_of_its_own_making_gets_nothing(tmp_path: Path):
    with server(lambda client: client.recv(1), self_signed(tmp_path)) as account:
        assert type(failure(account=account)) is DestinationUnreachable


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC)).not_valid_after(
        datetime(2040, 1, 1, tzinfo=UTC)
    )
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    pem += key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem")
    return context
