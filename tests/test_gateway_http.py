"""One request over a real socket, and every way in which it can fail."""

from __future__ import annotations

import contextlib
import gzip
import re
import socket
import ssl
import struct
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from bot_manager.network import wire
from gateways import http
from gateways.base import (
    Account,
    BadGatewayAnswer,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayTimeout,
    GatewayUnreachable,
)

TOKEN = "canary-token"
UNKNOWN = (GatewayTimeout, BadGatewayAnswer)
HASTY = wire.Bounds(connect_s=0.2, read_s=0.2, answer_s=0.4)


class Server:
    """Answers each connection with what a function does to it; `requests` are what came in."""

    def __init__(self, behave, wrap=lambda sock: sock):
        self.requests = []
        self.ended = threading.Event()
        self._behave, self._wrap = behave, wrap
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    @property
    def address(self):
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        # A shut listening socket wakes accept on Linux; closing alone does not.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()

    def _serve(self):
        while not self.ended.is_set():
            try:
                raw, _ = self._socket.accept()
            except OSError:
                return
            with raw, contextlib.suppress(OSError):
                raw.settimeout(5)
                with self._wrap(raw) as sock:
                    self.requests.append(whole_request(sock))
                    self._behave(self, sock)


def whole_request(sock):
    found = b""
    while not complete(found) and (piece := sock.recv(65536)):
        found += piece
    return found


def complete(request):
    head, ended, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    hello = request.startswith(b"\x16")  # TLS spoken to a server that does not
    return hello or (bool(ended) and len(body) >= (int(length[1]) if length else 0))


def answer(body=b"{}", status="200 OK", headers=""):
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()
    return lambda _server, sock: sock.sendall(head + body)


def dripping(head, piece=b"x"):
    """A head at once, then a byte at a time until the other side goes away."""

    def behave(server, sock):
        sock.sendall(head)
        while not server.ended.wait(0.02):
            sock.sendall(piece)

    return behave


def silent(server, sock):
    server.ended.wait(10)


def reset(_server, sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def ask(server, method="POST", scheme="http", **kwargs):
    account = Account(f"{scheme}://{server.address}", {"token": TOKEN})
    return http.ask(account, method, "/charge", headers={"Authorization": f"Bearer {TOKEN}"}, **kwargs)


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(http, "_adapter", wire.Adapter(HASTY))


def test_a_request_is_sent_whole_and_its_answer_read():
    with Server(answer(b'{"id": "1"}')) as server:
        assert ask(server, json={"value": 4990}, query={"return_existing": "true"}) == {"id": "1"}
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /charge?return_existing=true HTTP/1.1"
    assert {"Authorization: Bearer canary-token", "Accept: application/json", "Content-Type: application/json"} <= {
        *lines
    }
    assert {"Accept-Encoding: identity", "Connection: close"} <= {*lines}
    assert body == b'{"value": 4990}'


def test_an_answer_in_chunks_is_read():
    chunks = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{"id\r\n6\r\n": "1"\r\n1\r\n}\r\n0\r\n\r\n'
    with Server(lambda _server, sock: sock.sendall(chunks)) as server:
        assert ask(server) == {"id": "1"}


def test_the_environment_changes_neither_the_way_nor_the_credentials(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with Server(answer()) as server:
        ask(server)
    assert b"Authorization: Bearer canary-token\r\n" in server.requests[0]


def test_a_closed_port_means_that_nothing_happened():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    with pytest.raises(GatewayUnreachable):
        http.ask(Account(f"http://127.0.0.1:{address[1]}", {}), "POST", "/")


def test_an_unknown_host_means_that_nothing_happened(monkeypatch):
    def nowhere(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(GatewayUnreachable):
        http.ask(Account("https://gateway.test", {}), "POST", "/")


@pytest.mark.parametrize(
    "base_url", ["", "gateway", "ftp://gateway.test", "http://", "http://[", "http://a b", "http://" + "a" * 300]
)
def test_an_address_that_is_none_means_that_nothing_happened(base_url, monkeypatch):
    with pytest.raises(GatewayUnreachable):
        http.ask(Account(base_url, {}), "POST", "/x")


def test_a_connection_that_is_not_taken_in_time_means_that_nothing_happened(monkeypatch):
    monkeypatch.setattr(http, "_adapter", wire.Adapter(replace(HASTY, answer_s=8.0)))
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(3):  # fill the queue, so that the next one hangs
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        with pytest.raises(GatewayUnreachable):
            http.ask(Account(f"http://127.0.0.1:{full.getsockname()[1]}", {}), "POST", "/")


def test_silence_means_that_nobody_knows(hasty):
    with Server(silent) as server, pytest.raises(GatewayTimeout):
        ask(server)
    assert server.requests[0]


def test_a_reset_after_sending_means_that_nobody_knows():
    with Server(reset) as server, pytest.raises(GatewayTimeout):
        ask(server)


def test_a_connection_closed_without_an_answer_means_that_nobody_knows():
    with Server(lambda _server, sock: None) as server, pytest.raises(GatewayTimeout):
        ask(server)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"H",
        b"HTTP/1.1 400 No\r\n\r\n",
    ],
    ids=["headers", "body", "status", "error"],
)
def test_an_answer_that_drips_is_not_waited_for(head, hasty):
    with Server(dripping(head)) as server:
        started = time.monotonic()
        with pytest.raises((GatewayTimeout, GatewayRefused)):
            ask(server)
        assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70000 + b"\r\n\r\n",
    ],
    ids=["short", "short chunk", "bad chunk", "cut", "nonsense", "bad status", "many headers", "long header"],
)
def test_an_answer_that_breaks_off_means_that_nobody_knows(head):
    with Server(lambda _server, sock: sock.sendall(head)) as server, pytest.raises(UNKNOWN):
        ask(server)


def test_an_endless_answer_is_cut():
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    with Server(dripping(head, piece=b" " * 65536)) as server, pytest.raises(BadGatewayAnswer, match="large"):
        ask(server)


@pytest.mark.parametrize("body", [b'{"message": "unpacked"}', b" " * 10_000_000], ids=["small", "bomb"])
@pytest.mark.parametrize("status", ["200 OK", "422 No"])
def test_a_compressed_answer_is_not_unpacked(status, body):
    packed = gzip.compress(body)
    gzipped = answer(packed, status, "Content-Encoding: gzip\r\n")
    with Server(gzipped) as server, pytest.raises((BadGatewayAnswer, GatewayRefused)) as caught:
        ask(server)
    assert "unpacked" not in str(caught.value)


def test_a_redirect_is_not_followed():
    with Server(answer()) as other:
        elsewhere = f"Location: http://{other.address}/\r\n"
        with Server(answer(status="307 Elsewhere", headers=elsewhere)) as server, pytest.raises(BadGatewayAnswer):
            ask(server)
    assert not other.requests


def test_an_error_whose_text_breaks_off_is_still_that_error():
    head = b"HTTP/1.1 401 No\r\nContent-Length: 50\r\n\r\n{}"
    with (
        Server(lambda _server, sock: sock.sendall(head)) as server,
        pytest.raises(GatewayMisconfigured, match=r"answered 401$"),
    ):
        ask(server)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"message": "valor baixo", "errors": {"value": ["x"]}}', "answered 422: valor baixo"),
        (b'{"error": "sem saldo"}', "answered 422: sem saldo"),
        (b'{"errors": [{"message": "invalido"}]}', "answered 422: invalido"),
        (b'[{"description": "invalido"}]', "answered 422: invalido"),
        (b'{"error": {"message": "dentro"}}', "answered 422: dentro"),
        (b'{"message": "duas\\nlinhas\\u001b[31m  e espacos"}', "answered 422: duas linhas [31m e espacos"),
        (b'{"message": "seu token canary-token caiu"}', "answered 422: seu token *** caiu"),
        (b'{"message": "CPF 123.456.789-09 de fulana@example.com"}', "answered 422: CPF *** de ***"),
        (b'{"message": "url https://shop.example.com/webhook/x/secret"}', "answered 422: url ***"),
        (b'{"message": 17, "error": null, "errors": []}', "answered 422"),
        (b"<html>", "answered 422"),
        (b"", "answered 422"),
    ],
)
def test_a_refusal_is_told_in_the_providers_words_masked(body, told):
    with Server(answer(body, "422 No")) as server, pytest.raises(GatewayRefused) as caught:
        ask(server)
    assert str(caught.value) == told


def test_a_long_refusal_is_shortened_and_quickly():
    body = b'{"message": "' + b"nao " * 50_000 + b"a" * 100_000 + b'"}'
    started = time.process_time()
    with Server(answer(body, "422 No")) as server, pytest.raises(GatewayRefused) as caught:
        ask(server)
    assert time.process_time() - started < 1
    assert len(str(caught.value)) < 250


# A deadline


def in_seconds(server, seconds, scheme="http"):
    account = Account(f"{scheme}://{server.address}", {}, deadline=time.monotonic() + seconds)
    started = time.monotonic()
    try:
        return http.ask(account, "POST", "/charge")
    finally:
        assert time.monotonic() - started < seconds + 2


@pytest.mark.parametrize(
    "behave",
    [silent, dripping(b"H"), dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")],
    ids=["silent", "dripping headers", "dripping body"],
)
def test_a_deadline_holds_for_the_whole_call(behave):
    with Server(behave) as server, pytest.raises(GatewayTimeout):
        in_seconds(server, 0.3)


def test_a_deadline_may_be_longer_than_a_calls_own_limit(monkeypatch):
    monkeypatch.setattr(http, "_adapter", wire.Adapter(replace(http.BOUNDS, answer_s=0.3)))

    def slow(server, sock):
        server.ended.wait(0.6)
        answer(b'{"id": "1"}')(server, sock)

    with Server(slow) as server:
        assert in_seconds(server, 5) == {"id": "1"}


def test_two_calls_share_one_deadline():
    with Server(answer()) as server:
        account = Account(f"http://{server.address}", {}, deadline=time.monotonic() - 0.1)
        with pytest.raises(GatewayUnreachable, match="no time"):
            http.ask(account, "POST", "/charge")
    assert not server.requests


def test_a_name_that_nobody_answers_for_is_not_waited_for(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: never.wait(30))
    account = Account("http://gateway.test", {}, deadline=time.monotonic() + 0.2)
    started = time.monotonic()
    with pytest.raises(GatewayUnreachable):
        http.ask(account, "POST", "/")
    never.set()
    assert time.monotonic() - started < 3


def test_an_address_that_does_not_answer_leaves_time_for_the_next(monkeypatch):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        server = stack.enter_context(Server(answer(b'{"id": "1"}')))
        found = [full.getsockname(), server._socket.getsockname()]
        infos = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in found]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: infos)
        account = Account("http://gateway.test", {}, deadline=time.monotonic() + 1)
        assert http.ask(account, "POST", "/") == {"id": "1"}


# TLS


def self_signed():
    """A certificate that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("gateway.test")])
    certificate = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(1)
        )
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    return certificate.public_bytes(Encoding.PEM), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture(scope="module")
def issued(tmp_path_factory):
    """A certificate for 127.0.0.1 and its key, and what to trust to accept it."""
    folder = tmp_path_factory.mktemp("tls")
    for name, pem in zip(("certificate.pem", "key.pem"), self_signed(), strict=True):
        (folder / name).write_bytes(pem)
    return folder


@pytest.fixture
def tls(issued):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued / "certificate.pem", issued / "key.pem")
    return lambda sock: context.wrap_socket(sock, server_side=True)


@pytest.fixture
def known_here(monkeypatch):
    """gateway.test is this machine."""
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest: real("127.0.0.1" if host == "gateway.test" else host, *rest)
    )


def ask_by_name(server):
    return http.ask(Account(f"https://gateway.test:{server.address.split(':')[1]}", {}), "POST", "/")


def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(tls, known_here):
    with Server(answer(), wrap=tls) as server, pytest.raises(GatewayUnreachable):
        ask_by_name(server)
    assert not server.requests


def test_a_certificate_for_another_name_is_refused_before_anything_is_sent(tls, issued, monkeypatch):
    monkeypatch.setattr(http, "_adapter", wire.Adapter(authorities=str(issued / "certificate.pem")))
    with Server(answer(), wrap=tls) as server, pytest.raises(GatewayUnreachable):
        ask(server, scheme="https")
    assert not server.requests


def test_a_right_certificate_is_taken(tls, issued, known_here, monkeypatch):
    monkeypatch.setattr(http, "_adapter", wire.Adapter(authorities=str(issued / "certificate.pem")))
    with Server(answer(b'{"id": "1"}'), wrap=tls) as server:
        assert ask_by_name(server) == {"id": "1"}


def test_silence_over_tls_means_that_nobody_knows(tls, issued, known_here, monkeypatch):
    hasty = replace(HASTY, connect_s=3.0)
    monkeypatch.setattr(http, "_adapter", wire.Adapter(hasty, authorities=str(issued / "certificate.pem")))
    with Server(silent, wrap=tls) as server, pytest.raises(GatewayTimeout):
        ask_by_name(server)


def test_a_drip_over_tls_is_not_waited_for(tls, issued, known_here, monkeypatch):
    hasty = replace(HASTY, connect_s=3.0)
    monkeypatch.setattr(http, "_adapter", wire.Adapter(hasty, authorities=str(issued / "certificate.pem")))
    with Server(dripping(b"HTTP/1.1 200 OK\r\nX-Slow: "), wrap=tls) as server, pytest.raises(GatewayTimeout):
        ask_by_name(server)


def test_a_server_that_does_not_speak_tls_means_that_nothing_happened():
    with Server(answer()) as server, pytest.raises(GatewayUnreachable):
        ask(server, scheme="https")


def test_a_handshake_that_hangs_means_that_nothing_happened(monkeypatch):
    monkeypatch.setattr(http, "_adapter", wire.Adapter(replace(HASTY, answer_s=8.0)))
    with Server(silent) as server, pytest.raises(GatewayUnreachable):
        ask(server, scheme="https")


# A certificate of our own


@pytest.fixture(scope="module")
def own():
    """A customer's certificate and key as they are pasted, and the certificate alone."""
    certificate, key = self_signed()
    return (certificate + key).decode(), certificate.decode()


@pytest.fixture
def demanding(issued, own, known_here, monkeypatch):
    """A server that talks only to who has that certificate."""
    monkeypatch.setattr(http, "_adapter", wire.Adapter(authorities=str(issued / "certificate.pem")))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=own[1])
    context.load_cert_chain(issued / "certificate.pem", issued / "key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with Server(answer(b'{"id": "1"}'), wrap=lambda sock: context.wrap_socket(sock, server_side=True)) as server:
        yield server


def ask_as(server, certificate):
    account = Account(f"https://gateway.test:{server.address.split(':')[1]}", {})
    return http.ask(account, "POST", "/", certificate=certificate)


def test_a_server_that_demands_a_certificate_is_shown_the_accounts_own(demanding, own):
    assert ask_as(demanding, own[0]) == {"id": "1"}
    assert ask_as(demanding, own[0]) == {"id": "1"}
    assert len(http._adapter._owned) == 1


def test_whose_certificate_is_not_taken_is_heard_by_nobody(demanding, own):
    """TLS 1.3 says so only once the request is on its way, so for us it is unknown."""
    ask_as(demanding, own[0])
    certificate, key = self_signed()
    for other in (None, (certificate + key).decode()):
        with pytest.raises((GatewayUnreachable, GatewayTimeout)):
            ask_as(demanding, other)
    ask_as(demanding, own[0])
    assert len(demanding.requests) == 2


def test_what_is_no_certificate_with_its_key_is_found_before_anything_is_sent(demanding, own):
    _, key = self_signed()
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary-password")
    )
    for bad in ("", "canary", own[1], key.decode(), own[1] + key.decode(), own[1] + locked.decode(), own[0][:-80]):
        with pytest.raises(GatewayMisconfigured) as caught:
            ask_as(demanding, bad)
        assert "canary" not in repr(caught.value)
    assert not demanding.requests
    assert not http._adapter._owned


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_key_is_never_written_to_a_disk(demanding, own, monkeypatch):
    seen = []
    real = ssl.SSLContext.load_cert_chain

    def watched(context, path, **rest):
        seen.append(str(Path(path).readlink()))
        return real(context, path, **rest)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watched)
    before = open_files()
    http._adapter._pools_of(own[0])
    assert [path.startswith("/memfd:") for path in seen] == [True]
    assert open_files() == before


def test_a_certificate_is_no_matter_where_there_is_no_tls():
    with Server(answer(b'{"id": "1"}')) as server:
        assert http.ask(Account(f"http://{server.address}", {}), "POST", "/", certificate="none") == {"id": "1"}


def test_only_so_many_certificates_are_kept(own, monkeypatch):
    monkeypatch.setattr(wire, "CERTIFICATES", 2)
    adapter = wire.Adapter()
    first, second, third = ("".join(pem.decode() for pem in self_signed()) for _ in range(3))
    kept = adapter._pools_of(first)
    adapter._pools_of(second)
    assert adapter._pools_of(first) is kept
    adapter._pools_of(third)
    assert len(adapter._owned) == 2
    assert adapter._pools_of(first) is kept


@pytest.mark.parametrize("credential", ["canary‘", "canary\r\nX: y", " canary"])
def test_a_credential_that_can_not_be_sent_is_not_hidden_in_base64(credential):
    for pair in ((credential, "b"), ("a", credential)):
        with pytest.raises(GatewayMisconfigured) as caught:
            http.basic(*pair)
        assert "canary" not in str(caught.value)
    assert http.basic("a", "b") == {"Authorization": "Basic YTpi"}
