"""How gateways speak HTTP: one request, bounded in time and size, every way to fail told as a GatewayError.

Each call opens its own connection. An idle one may have been closed by the other side, and then a POST fails in a way
that can't be told from a charge that was made: a TLS handshake is the cheaper price.

`requests` follows no redirect here, and reads neither proxies nor `.netrc` from the environment, because the adapter is
used without a session.
"""

from __future__ import annotations

import io
import logging
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from typing import Any

import requests
import requests.utils
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from bot_manager import strict_json
from gateways.base import (
    Account,
    BadGatewayAnswer,
    GatewayError,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayTimeout,
    GatewayUnreachable,
)

CONNECT_SECONDS = 3.0
READ_SECONDS = 5.0  # between two pieces of the answer
ANSWER_SECONDS = 8.0  # for the whole answer, headers included
MAX_ANSWER_BYTES = 1024 * 1024
_PIECE_BYTES = 256 * 1024
_SHOWN = 200  # characters of a provider's own message that we pass on
_TRY_LATER = {408, 429, 503}


def ask(
    account: Account,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    json: Any = None,
) -> dict[str, Any]:
    """The provider's answer, which has to be a JSON object. Raises GatewayError."""
    body = send(account, method, path, headers=headers, query=query, json=json)
    try:
        answer = strict_json.loads(body)
    except strict_json.BadJson as why:
        raise BadGatewayAnswer(f"the answer {why}") from None
    if not isinstance(answer, dict):
        raise BadGatewayAnswer("the answer is not a JSON object")
    return answer


def send(
    account: Account,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    json: Any = None,
) -> bytes:
    """The body of an answer with a 2xx status, whatever it says. Raises GatewayError.

    path: below `account.base_url`, its parts already quoted.
    """
    request = _prepared(method, account.base_url.rstrip("/") + path, headers or {}, query, json)
    response = _exchange(request)
    try:
        if not 200 <= response.status_code < 300:
            raise _error(method, response, account)
        return _body(response)
    finally:
        response.close()


def _prepared(
    method: str, url: str, headers: Mapping[str, str], query: Mapping[str, str] | None, json: Any
) -> requests.PreparedRequest:
    if not all(value.isascii() and value.isprintable() and value == value.strip() for value in headers.values()):
        raise GatewayMisconfigured("a credential has characters that can't be sent; was it pasted whole and alone?")
    # Nothing compressed: a small answer could unpack to any size.
    fixed = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Connection": "close",
        "User-Agent": "bot-manager",
    }
    try:
        return requests.Request(method, url, headers={**fixed, **headers}, params=query, json=json).prepare()
    except requests.RequestException:
        raise GatewayUnreachable("the address is not one that can be called") from None


def _exchange(request: requests.PreparedRequest) -> requests.Response:
    """Up to the answer's headers. Exceptions are not chained: their texts hold addresses, and those may hold tokens."""
    try:
        return _adapter.send(request, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except requests.ConnectionError as error:
        if _never_connected(error):
            raise GatewayUnreachable("no connection") from None
        raise GatewayTimeout("the connection broke before an answer came") from None
    except requests.RequestException as error:
        if isinstance(error, ValueError):  # InvalidURL, InvalidSchema, InvalidHeader …: found before anything was sent
            raise GatewayUnreachable("the address is not one that can be called") from None
        raise GatewayTimeout("no answer in time") from None
    except HTTPError:
        raise GatewayTimeout("the answer broke off") from None


def _never_connected(error: requests.ConnectionError) -> bool:
    cause = error.args[0] if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(getattr(cause, "reason", None), ConnectTimeoutError)


def _body(response: requests.Response) -> bytes:
    body = b""
    try:
        while piece := response.raw.read(_PIECE_BYTES, decode_content=False):
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise BadGatewayAnswer("the answer is too large")
    except (HTTPError, OSError):
        raise GatewayTimeout("the answer broke off") from None
    return body


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
    """The provider's own words about an error, fit to be shown and logged."""
    try:
        answer = strict_json.loads(_body(response))
    except (GatewayError, strict_json.BadJson):
        return ""
    words = "".join(c if c.isprintable() else " " for c in " ".join(_words(answer)))
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
    return _SECRETIVE.sub("***", words)


class _Bounded(io.RawIOBase):
    """A socket's stream that ends at a fixed time, however slowly the other side drips."""

    def __init__(self, sock: socket.socket, stream: io.RawIOBase) -> None:
        self._sock = sock
        self._stream = stream
        self._ends = time.monotonic() + ANSWER_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(min(READ_SECONDS, left))
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Answer(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Bounded(sock, self.fp.detach()))


class _Connection(HTTPConnection):
    """Whatever goes wrong before the request is on its way is told as NewConnectionError, TLS included."""

    response_class = _Answer

    def connect(self) -> None:
        try:
            super().connect()
        except (OSError, HTTPError) as error:
            raise NewConnectionError(self, type(error).__name__) from None


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    """TLS is checked against one context made once: requests reads its authorities anew, 16 CPU-ms a connection."""

    def __init__(self, authorities: str) -> None:
        self._tls = ssl.create_default_context(cafile=authorities)
        super().__init__(pool_maxsize=100)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing to add: the context demands a certificate, and the host's name in it."""


# Its warnings quote whole addresses.
logging.getLogger("urllib3").setLevel(logging.ERROR)
_adapter = _Adapter(requests.utils.DEFAULT_CA_BUNDLE_PATH)
