"""One HTTP exchange with another company's server, bounded in time and size, and how surely nothing came of a failure.

`requests` follows no redirect here, unpacks nothing, and reads neither proxies nor `.netrc` from the environment,
because the adapter is used without a session. Each exchange opens its own connection: an idle one may have been closed
by the other side, and then a POST fails in a way that can't be told from one that took effect.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPResponse
from typing import Any

import requests
import requests.utils
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.poolmanager import PoolManager

AUTHORITIES = requests.utils.DEFAULT_CA_BUNDLE_PATH
CERTIFICATES = 64  # whose contexts are kept; the one that was used longest ago goes first
_PIECE_BYTES = 256 * 1024

Dial = Callable[[str, int, float], socket.socket]

# Its warnings quote whole addresses.
logging.getLogger("urllib3").setLevel(logging.ERROR)


class WireError(Exception):
    """The exchange failed; the message quotes neither the address nor what was sent."""

    permanent = False


class NoAddress(WireError):
    """The address is not one that can be called: nothing was sent."""

    permanent = True


class NotSent(WireError):
    """No connection came about: nothing was sent."""


class NoAnswer(WireError):
    """It may have been sent; no whole answer came in time."""


class BadCertificate(WireError):
    """What was given as a certificate and its key is not both, or they are not a pair: nothing was sent."""

    permanent = True


class TooLarge(WireError):
    """The answer is larger than it may be."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds to connect (the name's look-up and the TLS handshake included), between two pieces of the answer, and for
    the whole exchange; bytes of the answer's body."""

    connect_s: float = 3.0
    read_s: float = 5.0
    answer_s: float = 8.0
    body_bytes: int = 1024 * 1024


def prepared(
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    query: Mapping[str, str] | None = None,
    json: Any = None,
    data: bytes | None = None,
) -> requests.PreparedRequest:
    """The request as it goes out; it asks for an answer that is not packed. Raises NoAddress."""
    fixed = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "bot-manager"}
    try:
        made = requests.Request(method, url, headers={**fixed, **headers}, params=query, json=json, data=data)
        return made.prepare()
    except (requests.RequestException, UnicodeError):
        raise NoAddress("the address is not one that can be called") from None


def body(response: requests.Response, limit: int) -> bytes:
    """The answer's body as it came. Raises TooLarge, NoAnswer."""
    found = b""
    try:
        while piece := response.raw.read(_PIECE_BYTES, decode_content=False):
            found += piece
            if len(found) > limit:
                raise TooLarge("the answer is too large")
    except (HTTPError, OSError):
        raise NoAnswer("the answer broke off") from None
    return found


class Adapter(HTTPAdapter):
    """TLS is checked against one context made once: requests reads its authorities anew, 16 CPU-ms a connection.

    dial: opens the socket, given host, port and seconds; without one, any address that the host has is taken. What it
    raises of WireError comes out as it is.
    """

    def __init__(self, bounds: Bounds = Bounds(), authorities: str = AUTHORITIES, dial: Dial | None = None) -> None:
        self.bounds = bounds
        self._dial = dial
        self._authorities = authorities
        self._tls = ssl.create_default_context(cafile=authorities)
        self._owned: dict[str, PoolManager] = {}
        self._lock = threading.Lock()
        super().__init__(pool_maxsize=100)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        self.poolmanager = self._pools(self._tls, maxsize)

    def _pools(self, tls: ssl.SSLContext, maxsize: int) -> PoolManager:
        made = PoolManager(maxsize=maxsize, ssl_context=tls)
        pools = {"http": _Pool, "https": _TlsPool}
        bound = {scheme: partial(pool, bounds=self.bounds, dial=self._dial) for scheme, pool in pools.items()}
        made.pool_classes_by_scheme = bound  # type: ignore[assignment]
        return made

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        """cert: a PEM text, where `requests` has a path."""
        where, _ = self.build_connection_pool_key_attributes(request, verify)
        if cert is None or where["scheme"] != "https":
            return super().get_connection_with_tls_context(request, verify, proxies)
        return self._pools_of(cert).connection_from_host(where["host"], where["port"], where["scheme"])

    def _pools_of(self, certificate: str) -> PoolManager:
        """Kept under its hash: the key itself is in the context alone."""
        name = hashlib.sha256(certificate.encode(errors="replace")).hexdigest()
        with self._lock:
            pools = self._owned.pop(name, None) or self._pools(self._tls_with(certificate), 10)
            self._owned[name] = pools
            while len(self._owned) > CERTIFICATES:
                del self._owned[next(iter(self._owned))]
        return pools

    def _tls_with(self, certificate: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._authorities)
        own = os.memfd_create(
            "certificate"
        )  # `load_cert_chain` wants a path: this one leads to memory, never to a disk
        try:
            os.write(own, certificate.encode(errors="replace"))
            context.load_cert_chain(f"/proc/self/fd/{own}", password=b"")  # no prompt for a key that is locked
        except OSError:  # ssl.SSLError is one
            raise BadCertificate("the certificate, its key, or both can't be read") from None
        finally:
            os.close(own)
        return context

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing to add: the context demands a certificate, and the host's name in it."""

    def exchange(
        self, request: requests.PreparedRequest, seconds: float | None = None, certificate: str | None = None
    ) -> requests.Response:
        """Up to the answer's headers; to be closed. Raises NoAddress, BadCertificate, NotSent, NoAnswer.

        seconds: for the whole exchange, to the body's last byte, instead of the bounds' own.
        certificate: who we are, for servers that ask: a certificate and its unlocked key, as one PEM text.
        Exceptions are not chained: their texts hold addresses, and those may hold tokens.
        """
        whole = self.bounds.answer_s if seconds is None else seconds
        timeout: Any = urllib3.Timeout(connect=min(self.bounds.connect_s, whole), total=whole)
        try:
            return self.send(request, stream=True, timeout=timeout, cert=certificate)
        except requests.ConnectionError as error:
            if _never_connected(error):
                raise NotSent("no connection") from None
            raise NoAnswer("the connection broke before an answer came") from None
        except requests.RequestException as error:
            if isinstance(error, ValueError):  # InvalidURL, InvalidSchema, InvalidHeader …: found before sending
                raise NoAddress("the address is not one that can be called") from None
            raise NoAnswer("no answer in time") from None
        except HTTPError:
            raise NoAnswer("the answer broke off") from None


def _never_connected(error: requests.ConnectionError) -> bool:
    cause = error.args[0] if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(getattr(cause, "reason", None), ConnectTimeoutError)


class _Bounded(io.RawIOBase):
    """A socket's stream that ends at a fixed time, however slowly the other side drips.

    Before it asks for the answer, urllib3 sets the socket's timeout to what is left of the whole.
    """

    def __init__(self, sock: socket.socket, stream: io.RawIOBase, bounds: Bounds) -> None:
        self._sock = sock
        self._stream = stream
        self._piece_s = bounds.read_s
        self._ends = time.monotonic() + (sock.gettimeout() or bounds.answer_s)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(min(self._piece_s, left))
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Answer(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, bounds: Bounds, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Bounded(sock, self.fp.detach(), bounds))


class _Connection(HTTPConnection):
    """Whatever goes wrong before the request is on its way is told as NewConnectionError, TLS included."""

    def __init__(self, *args: Any, bounds: Bounds, dial: Dial | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.response_class = partial(_Answer, bounds=bounds)  # type: ignore[assignment]
        self._dial, self._patience = dial or _dial_any, bounds.connect_s

    def connect(self) -> None:
        try:
            super().connect()
        except (OSError, HTTPError) as error:
            raise NewConnectionError(self, type(error).__name__) from None

    def _new_conn(self) -> socket.socket:
        return self._dial(self._dns_host, self.port, self.timeout or self._patience)


def _dial_any(host: str, port: int, seconds: float) -> socket.socket:
    """A connection to any of the host's addresses; urllib3's own would give each of them the whole time anew."""
    ends = time.monotonic() + seconds
    found = look_up(host, port, seconds)
    failed = OSError("no address")
    for rest, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(_left(ends) / rest)
            made.connect(address)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.settimeout(_left(ends))  # what a TLS handshake may take
        except OSError as error:
            failed = error
            made.close()
        else:
            return made
    raise failed


def _left(ends: float) -> float:
    if (left := ends - time.monotonic()) <= 0:
        raise TimeoutError
    return left


def look_up(host: str, port: int, seconds: float) -> list[Any]:
    """The host's addresses, as `getaddrinfo` tells them. Raises gaierror, TimeoutError.

    The system's resolver takes no limit, so a thread waits for it, and we for the thread.
    """
    answers: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
        except UnicodeError:
            answers.put(socket.gaierror("no name"))
        except OSError as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, OSError):
        raise found
    return found


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    kind = _Connection

    def __init__(self, *args: Any, bounds: Bounds, dial: Dial | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ConnectionCls = partial(self.kind, bounds=bounds, dial=dial)  # type: ignore[assignment]


class _TlsPool(_Pool, HTTPSConnectionPool):
    kind = _TlsConnection
