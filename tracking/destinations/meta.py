"""Meta Conversions API.

Source: developers.facebook.com/docs/marketing-api/conversions-api; what the error numbers call for is nowhere stated in
one place and was gathered from the Graph API's pages and from open connectors.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import requests

from bot_manager.network import strict, wire
from tracking import normalize
from tracking.destinations.base import (
    Account,
    Ambiguous,
    ConversionEvent,
    Credential,
    Customer,
    Destination,
    DestinationError,
    DestinationMisconfigured,
    DestinationRefused,
    DestinationThrottled,
    DestinationUnreachable,
    EventName,
    Receipt,
    Visitor,
)
from tracking.identifiers import read_facebook_id

META_VERSION = "v26.0"  # of 2026-07-29
META_VERSION_EXPIRES = date(2028, 7, 29)  # at the earliest: two years are promised, the day was not yet told

MAX_ANSWER_BYTES = 1024 * 1024

_THROTTLED = {4, 17, 32, 613, *range(80000, 80015)}
_TEMPORARY = {341, 368, 5000, 21009}  # 21009: data set not ready, comes as a 400; 368: blocked for a while, policy
_ACCOUNT = {3, 10, 190, 200, 294, 2635}  # 190: token; 2635: this version is gone, and what waits is not lost
_PLACE_ONLY = {"country", "client_user_agent"}  # by themselves they match nobody, and Meta refuses the event

# Where no visitor of ours comes from: a proxy that is not configured, a test on this machine.
_INNER_NETWORKS = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::/127",
        "fc00::/7",
        "fe80::/10",
    )
]

_adapter = wire.Adapter()


class Meta(Destination):
    kind = "meta"
    label = "Meta (Facebook e Instagram)"
    api_url = "https://graph.facebook.com"
    credentials = (
        Credential("pixel_id", "ID do pixel", secret=False, help="Só números; está no Gerenciador de Eventos."),
        Credential("access_token", "Token de acesso", help="Gerenciador de Eventos, Configurações, API de Conversões."),
    )
    max_age = timedelta(days=7)
    dedup_window = timedelta(hours=48)
    batch_size = 1000

    def build(self, event: ConversionEvent) -> dict[str, Any]:
        user_data = _visitor_data(event) | _customer_data(event.customer)
        if not user_data.keys() - _PLACE_ONLY:
            raise DestinationRefused("nothing in this event tells who it was")
        return {
            "event_name": str(event.event_name),
            "event_id": event.event_id,
            "event_time": int(event.event_time.timestamp()),
            **_action_source(event.visitor),
            "user_data": user_data,
            "custom_data": _custom_data(event),
        }

    def send(self, account: Account, events: Sequence[ConversionEvent]) -> Receipt:
        """Meta refuses a whole call for one bad event: of several, halve and try again to find it."""
        if not 1 <= len(events) <= self.batch_size:
            raise ValueError(f"{len(events)} events in one call")
        body: dict[str, Any] = {"data": [self.build(event) for event in events]}
        if account.test_code:
            body["test_event_code"] = account.test_code
        response, answer = _post(_request(account, body))
        if not 200 <= response.status_code < 300:
            raise _error(response, answer)
        if answer.get("events_received") != len(events):
            raise Ambiguous(f"answered {response.status_code}, but not that it took in all events", _trace(answer))
        return Receipt(_trace(answer))


destination = Meta()


# What is told


def _visitor_data(event: ConversionEvent) -> dict[str, Any]:
    visitor = event.visitor
    return _present(
        client_ip_address=visitor.ip if _is_public(visitor.ip) else None,
        client_user_agent=visitor.user_agent,
        fbp=visitor.fbp if read_facebook_id(visitor.fbp, event.event_time) else None,
        fbc=visitor.fbc if read_facebook_id(visitor.fbc, event.event_time) else None,
    )


def _customer_data(customer: Customer) -> dict[str, Any]:
    return _present(
        em=_hashes(normalize.email(customer.email)),
        ph=_hashes(*normalize.phone(customer.phone)),
        fn=_hashes(normalize.name(customer.first_name)),
        ln=_hashes(normalize.name(customer.last_name)),
        external_id=_hashes(normalize.external_id(customer.external_id)),
        country=_hashes(normalize.country(customer.country)),
    )


def _action_source(visitor: Visitor) -> dict[str, str]:
    """A sale in a chat began on our page if the click passed there; the sender vouches for which it was."""
    url = normalize.page_url(visitor.source_url)
    if url and visitor.ip and visitor.user_agent:
        return {"action_source": "website", "event_source_url": url}
    return {"action_source": "chat"}


def _custom_data(event: ConversionEvent) -> dict[str, Any]:
    content = {"content_ids": [event.content_id], "content_type": "product"} if event.content_id else {}
    return _present(order_id=event.order_id) | content | _money(event)


def _money(event: ConversionEvent) -> dict[str, Any]:
    if event.value_cents is None and event.event_name != EventName.PURCHASE:
        return {}
    if event.value_cents is None or event.value_cents < 0:
        raise DestinationRefused("a purchase needs a value")
    # Without a currency Meta's partners send USD, and a sale of R$ 50 reports as one of R$ 250.
    if not re.fullmatch("[A-Z]{3}", event.currency or ""):
        raise DestinationRefused("a value needs a currency of three letters")
    return {"value": event.value_cents / 100, "currency": event.currency}


def _hashes(*texts: str | None) -> list[str]:
    return [normalize.hash_value(text) for text in texts if text]


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _is_public(ip: str | None) -> bool:
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:
        return False
    return not any(address in network for network in _INNER_NETWORKS)


# The call


def _request(account: Account, body: Mapping[str, Any]) -> requests.PreparedRequest:
    pixel_id, token = account.credentials.get("pixel_id", ""), account.credentials.get("access_token", "")
    if not re.fullmatch("[0-9]{1,32}", pixel_id):
        raise DestinationMisconfigured("the pixel's id must be digits only")
    if not re.fullmatch("[!-~]+", token):
        raise DestinationMisconfigured("the access token is missing or has characters that can't be sent")
    url = f"{account.base_url}/{META_VERSION}/{pixel_id}/events"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        return wire.prepared("POST", url, headers, data=json.dumps(body).encode())
    except wire.NoAddress as error:
        raise DestinationUnreachable(str(error)) from None


def _post(request: requests.PreparedRequest) -> tuple[requests.Response, dict[str, Any]]:
    """One call, and its answer read whole; an answer that is no JSON object says nothing."""
    try:
        response = _adapter.exchange(request)
    except (wire.NoAddress, wire.NotSent) as error:
        raise DestinationUnreachable(str(error)) from None
    except wire.NoAnswer as error:
        raise Ambiguous(str(error)) from None
    try:
        return response, _json_object(wire.body(response, MAX_ANSWER_BYTES))
    except wire.WireError as error:
        raise Ambiguous(str(error)) from None
    finally:
        response.close()


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        answer = strict.loads(body, MAX_ANSWER_BYTES)
    except strict.Unreadable:
        return {}
    return answer if isinstance(answer, dict) else {}


def _error(response: requests.Response, answer: Mapping[str, Any]) -> DestinationError:
    """What an answer that is no yes means; the numbers in it count more than the HTTP status."""
    error = answer.get("error")
    error = error if isinstance(error, dict) else {}
    code, subcode = _number(error, "code"), _number(error, "error_subcode")
    message = f"answered {response.status_code}" + _named(code, subcode, error.get("error_user_title"))
    if code in _THROTTLED or (code is None and response.status_code == 429):
        return DestinationThrottled(message, _trace(error), _wait_seconds(response.headers))
    kind = _kind(response.status_code, code, subcode, transient=error.get("is_transient") is True)
    return kind(message, _trace(error))


def _kind(status: int, code: int | None, subcode: int | None, *, transient: bool) -> type[DestinationError]:
    if code in _TEMPORARY:
        return DestinationUnreachable
    if not transient and (code in _ACCOUNT or (code, subcode) == (100, 33)):
        return DestinationMisconfigured
    if not transient and (code == 100 or (code, subcode) == (1, 99)):
        return DestinationRefused
    # 1 and 2 say "something went wrong, try again", not what became of the events.
    return Ambiguous if status >= 500 or status < 400 or code in (1, 2) else DestinationUnreachable


def _named(code: int | None, subcode: int | None, title: object) -> str:
    """Meta's longer texts may quote the token or the event; its titles are fixed phrases, and only letters pass."""
    numbers = "/".join(str(number) for number in (code, subcode) if number is not None)
    phrase = (
        title if isinstance(title, str) and re.fullmatch("[A-Za-z]{1,20}([ ,-]+[A-Za-z]{1,20}){0,9}", title) else ""
    )
    return "".join(f": {part}" for part in (numbers, phrase) if part)


def _wait_seconds(headers: Mapping[str, str]) -> int:
    """60 to 900; Meta tells minutes, per business, in a header of JSON."""
    usage = headers.get("X-Business-Use-Case-Usage", "")
    minutes: Iterable[str] = re.findall(r'"estimated_time_to_regain_access":\s*([0-9]{1,4})', usage)
    return min(900, max([60, *(60 * int(minute) for minute in minutes)]))


def _number(error: Mapping[str, Any], name: str) -> int | None:
    value = error.get(name)
    return value if isinstance(value, int) else None


def _trace(answer: Mapping[str, Any]) -> str:
    value = answer.get("fbtrace_id")
    return value if isinstance(value, str) and re.fullmatch(r"[\w-]{1,64}", value, re.ASCII) else ""
