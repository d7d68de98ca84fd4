"""How gateways speak HTTP: one exchange over the wire, every way to fail told as a GatewayError."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

import requests

from bot_manager import log
from bot_manager.network import strict, wire
from gateways.base import (
    Account,
    BadGatewayAnswer,
    GatewayError,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayTimeout,
    GatewayUnreachable,
)

T = TypeVar("T")

# Silence is no reason to give up before the time is over: who is slow may still answer.
BOUNDS = wire.Bounds(read_s=60.0, answer_s=8.0)
MAX_ANSWER_BYTES = 1024 * 1024
_UNSENDABLE = "a credential has characters that can't be sent; was it pasted whole and alone?"
_SHOWN = 200  # characters of a provider's own message that we pass on
_TRY_LATER = {408, 429, 503}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def ask(
    account: Account,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    json: Any = None,
    form: Mapping[str, str] | None = None,
    certificate: str | None = None,
) -> dict[str, Any]:
    """The provider's answer, which has to be a JSON object. Raises GatewayError."""
    sent = send(account, method, path, headers=headers, query=query, json=json, form=form, certificate=certificate)
    answer = _read(sent)
    if not isinstance(answer, dict):
        raise BadGatewayAnswer("the answer is not a JSON object")
    return answer


def ask_list(
    account: Account,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The answer to a GET, which has to be a list of JSON objects, or one alone. Raises GatewayError."""
    answer = _read(send(account, "GET", path, headers=headers, query=query))
    return objects([answer] if isinstance(answer, dict) else answer)


def if_known(ask: Callable[[], T], unknown: Collection[int] = (404,)) -> T | None:
    """What `ask` answers; None when the provider says, with one of these statuses, that there is no such thing.
    Raises GatewayError."""
    try:
        return ask()
    except GatewayRefused as refused:
        if refused.http_status in unknown:
            return None
        raise


def objects(found: Any) -> list[dict[str, Any]]:
    """A list of JSON objects. Raises BadGatewayAnswer."""
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BadGatewayAnswer("the answer is not a list of JSON objects")
    return found


def _read(body: bytes) -> Any:
    try:
        return strict.loads(body, MAX_ANSWER_BYTES)
    except strict.Unreadable as why:
        raise BadGatewayAnswer(f"the answer {why}") from None


def send(
    account: Account,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    json: Any = None,
    form: Mapping[str, str] | None = None,
    certificate: str | None = None,
) -> bytes:
    """The body of an answer with a 2xx status, whatever it says. Raises GatewayError.

    path: below `account.base_url`, its parts already quoted. form: sent as a form instead of JSON.
    certificate: the account's own with its key, as one PEM text, for providers that know their customers by it.
    """
    headers = {**_FORM, **(headers or {})} if form is not None else headers or {}
    data = urlencode(form).encode() if form is not None else None
    request = _prepared(method, account.base_url.rstrip("/") + path, headers, query=query, json=json, data=data)
    response = _exchange(request, _seconds(account), certificate)
    try:
        if not 200 <= response.status_code < 300:
            raise _error(method, response, account)
        return _body(response)
    finally:
        response.close()


def basic(user: str, password: str) -> dict[str, str]:
    """The header of HTTP Basic. Raises GatewayMisconfigured for what can't be a credential, which base64 would hide."""
    if not (_can_be_sent(user) and _can_be_sent(password)):
        raise GatewayMisconfigured(_UNSENDABLE)
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def credential(account: Account, name: str) -> str:
    """A credential that is sent elsewhere than in a header. Raises GatewayMisconfigured for what can't be one."""
    value = account.credentials[name]
    if not _can_be_sent(value):
        raise GatewayMisconfigured(_UNSENDABLE)
    return value


def _can_be_sent(value: str) -> bool:
    return value.isascii() and value.isprintable() and value == value.strip()


def _prepared(method: str, url: str, headers: Mapping[str, str], **content: Any) -> requests.PreparedRequest:
    if not all(_can_be_sent(value) for value in headers.values()):
        raise GatewayMisconfigured(_UNSENDABLE)
    try:
        return wire.prepared(method, url, {"Accept": "application/json", **headers}, **content)
    except wire.NoAddress as error:
        raise GatewayUnreachable(str(error)) from None


def _seconds(account: Account) -> float | None:
    if account.deadline is None:
        return None
    left = account.deadline - time.monotonic()
    if left <= 0:
        raise GatewayUnreachable("no time was left to ask")
    return left


def _exchange(request: requests.PreparedRequest, seconds: float | None, certificate: str | None) -> requests.Response:
    try:
        return _adapter.exchange(request, seconds, certificate)
    except wire.BadCertificate as error:
        raise GatewayMisconfigured(str(error)) from None
    except (wire.NoAddress, wire.NotSent) as error:
        raise GatewayUnreachable(str(error)) from None
    except wire.NoAnswer as error:
        raise GatewayTimeout(str(error)) from None


def _body(response: requests.Response) -> bytes:
    try:
        return wire.body(response, MAX_ANSWER_BYTES)
    except wire.TooLarge as error:
        raise BadGatewayAnswer(str(error)) from None
    except wire.NoAnswer as error:
        raise GatewayTimeout(str(error)) from None


def _error(method: str, response: requests.Response, account: Account) -> GatewayError:
    """What a status that is not 2xx means.

    500, 502 and 504 to a request that changes something prove nothing: a charge is made, then the answer fails on its
    way out. 503 and 429 are said instead of acting.
    """
    status = response.status_code
    said = _said(response, account)
    message = f"answered {status}: {said}" if said else f"answered {status}"
    if status in (401, 403):
        return GatewayMisconfigured(message)
    if status in _TRY_LATER or (status >= 500 and method == "GET"):
        return GatewayUnreachable(message)
    if 400 <= status < 500:
        return GatewayRefused(message, http_status=status)
    return BadGatewayAnswer(message)


def _said(response: requests.Response, account: Account) -> str:
    try:
        return said(_read(_body(response)), account)
    except GatewayError:
        return ""


def said(answer: Any, account: Account) -> str:
    """The provider's own words about an error, fit to be shown and logged; "" when it has none."""
    return fit(" ".join(_words(answer)), account)


def fit(words: str, account: Account) -> str:
    """A provider's words about an error, without what may not be shown or logged."""
    words = "".join(c if c.isprintable() else " " for c in words)
    return _masked(" ".join(words.split()), account)[:_SHOWN]


def _words(answer: Any) -> Iterator[str]:
    """Texts under the names that providers give to explanations, outermost first."""
    if isinstance(answer, list):
        answer = answer[0] if answer else None
    if not isinstance(answer, dict):
        return
    for name in ("message", "error", "description", "detail", "mensagem", "errors", "erros"):
        value = answer.get(name)
        if isinstance(value, str):
            yield value
        elif name in ("error", "errors", "erros"):
            yield from _words(value)


_SECRETIVE = re.compile(
    r"""[\w.+-]{1,64}@[\w.-]{1,255}   # an e-mail address
      | \+?\d[\d.\-/\s()]{6,}\d       # a document or a phone number
      | \S{24,}                      # a token, or an address that holds one""",
    re.VERBOSE,
)


def _masked(words: str, account: Account) -> str:
    # Bounded work; cut at a word, so that no half of a secret stays.
    words = words if len(words) <= 1000 else words[:1000].rpartition(" ")[0]
    for secret in sorted(account.credentials.values(), key=len, reverse=True):
        words = words.replace(secret, "***") if secret else words
    return log.of_others(_SECRETIVE.sub("***", words))


_adapter = wire.Adapter(BOUNDS)
