"""FakeMeta: what it refuses, and how it counts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from tests.world.faults import ResetAfter
from tests.world.meta import FakeMeta
from tests.world.meta_rules import is_cpf

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HASH = hashlib.sha256(b"ana").hexdigest()
Event = dict[str, Any]


@pytest.fixture
def meta() -> Iterator[FakeMeta]:
    with FakeMeta(clock=lambda: NOW) as meta:
        meta.add_pixel("111", "token")
        yield meta


def purchase(**changes: Any) -> Event:
    event: Event = {
        "event_name": "Purchase",
        "event_time": int(NOW.timestamp()) - 60,
        "event_id": "sale-1",
        "action_source": "website",
        "event_source_url": "https://shop.example/go/promo",
        "user_data": {
            "external_id": [HASH],
            "client_user_agent": "Mozilla/5.0",
            "client_ip_address": "203.0.113.7",
            "fbc": "fb.1.1772366400000.AbC-dEf_123",
            "fbp": "fb.1.1772366400000.1098115397",
        },
        "custom_data": {"value": 49.9, "currency": "BRL"},
    }
    return {key: value for key, value in {**event, **changes}.items() if value is not None}


def user(**changes: Any) -> Event:
    data = {**purchase()["user_data"], **changes}
    return purchase(user_data={key: value for key, value in data.items() if value is not None})


def send(fake: FakeMeta, *events: Event, pixel: str = "111", token: str = "token", **more: Any) -> requests.Response:
    url = f"{fake.url}/v26.0/{pixel}/events"
    headers = {"Authorization": f"Bearer {token}"}
    return requests.post(url, json={"data": list(events), **more}, headers=headers, timeout=5)


def error(answer: requests.Response) -> tuple[int, int, int | None]:
    return answer.status_code, answer.json()["error"]["code"], answer.json()["error"].get("error_subcode")


def test_a_good_event_is_received(meta: FakeMeta) -> None:
    answer = send(meta, purchase())

    assert answer.status_code == 200
    assert (answer.json()["events_received"], answer.json()["messages"]) == (1, [])
    assert answer.json()["fbtrace_id"]
    assert meta.ledger() == {("111", "Purchase", "sale-1"): 1}


def test_the_same_event_twice_counts_once(meta: FakeMeta) -> None:
    meta.fail("/events", how=ResetAfter())
    with pytest.raises(requests.ConnectionError):
        send(meta, purchase())
    send(meta, purchase(), purchase(event_id="sale-2"))

    assert meta.ledger()["111", "Purchase", "sale-1"] == 2
    assert [event["event_id"] for event in meta.deduplicated("111")] == ["sale-1", "sale-2"]


def test_a_wrong_token_is_190_and_a_foreign_or_unknown_pixel_33(meta: FakeMeta) -> None:
    meta.add_pixel("222", "other")

    assert error(send(meta, purchase(), token="wrong")) == (400, 190, None)
    assert error(send(meta, purchase(), pixel="222")) == (400, 100, 33)
    assert error(send(meta, purchase(), pixel="333")) == (400, 100, 33)
    meta.revoke("token")
    assert error(send(meta, purchase())) == (400, 190, None)


def test_a_token_outside_of_the_header_is_refused(meta: FakeMeta) -> None:
    url = f"{meta.url}/v26.0/111/events"

    assert requests.post(f"{url}?access_token=token", json={"data": [purchase()]}, timeout=5).status_code == 400
    assert error(send(meta, purchase(), access_token="token")) == (400, 100, None)
    assert not meta.ledger()


def test_an_expired_version_is_refused(meta: FakeMeta) -> None:
    headers = {"Authorization": "Bearer token"}
    url = f"{meta.url}/v16.0/111/events"

    assert requests.post(url, json={"data": [purchase()]}, headers=headers, timeout=5).status_code == 400


@pytest.mark.parametrize("seconds", [-7 * 86400 - 1, 61])
def test_an_event_from_too_long_ago_or_the_future_is_refused(meta: FakeMeta, seconds: int) -> None:
    event = purchase(event_time=int(NOW.timestamp()) + seconds)

    assert error(send(meta, event)) == (400, 100, 2804003)


@pytest.mark.parametrize(
    "event",
    [
        purchase(event_name=None),
        purchase(event_time=None),
        purchase(event_time="1772366400"),
        purchase(action_source=None),
        purchase(action_source="telegram"),
        purchase(user_data=None),
        purchase(user_data={}),
        purchase(event_source_url=None),
        purchase(event_source_url="t.me/bot"),
        purchase(action_source="business_messaging"),
        purchase(custom_data=None),
        purchase(custom_data={"value": "49.90", "currency": "BRL"}),
        purchase(custom_data={"value": 49.9}),
        purchase(custom_data={"value": 49.9, "currency": "R$"}),
        purchase(custom_data={"value": 49.9, "currency": "BRL", "secret": 1}),
        purchase(custom_data={"value": 49.9, "currency": "BRL", "order_id": "529.982.247-25"}),
        user(client_user_agent=None),
        user(em="ana@example.com"),
        user(em=HASH.upper()),
        user(ph=[HASH, "5511999999999"]),
        user(external_id="123"),
        user(fn=[]),
        user(fbc="IwAR123"),
        user(client_ip_address="999.1.1.1"),
        user(cpf=HASH),
        user(lead_id="52998224725"),
    ],
)
def test_a_faulty_event_is_refused(meta: FakeMeta, event: Event) -> None:
    status, code, _ = error(send(meta, event))

    assert (status, code) == (400, 100)
    assert not meta.ledger()


def test_one_bad_event_takes_the_whole_batch_down(meta: FakeMeta) -> None:
    assert not send(meta, purchase(), purchase(event_id="sale-2", event_name=None)).ok
    assert not meta.ledger()


def test_a_batch_has_at_most_a_thousand_events(meta: FakeMeta) -> None:
    assert send(meta, *[purchase()] * 1000).json()["events_received"] == 1000
    assert error(send(meta, *[purchase()] * 1001))[1] == 100
    assert error(send(meta))[1] == 100


def test_test_events_are_kept_apart(meta: FakeMeta) -> None:
    send(meta, purchase(), test_event_code="TEST123")

    assert not meta.ledger()
    assert len(meta.pixels["111"].tested) == 1


def test_a_pixel_can_be_looked_at(meta: FakeMeta) -> None:
    answer = requests.get(f"{meta.url}/v26.0/111", headers={"Authorization": "Bearer token"}, timeout=5)

    assert answer.json()["id"] == "111"


def test_what_looks_like_a_cpf() -> None:
    assert is_cpf("529.982.247-25")
    assert not is_cpf("529.982.247-26")
    assert not is_cpf("11111111111")
