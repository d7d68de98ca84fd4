"""The web door on the real gunicorn, answer by answer, then under hostile clients and signals."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from web import front

ROOT = Path(__file__).parent.parent
QUICK = {"TEST_BODY_SECONDS": "0.6", "TEST_HEADER_SECONDS": "0.6", "TEST_READ_SECONDS": "0.6"}


class Door:
    """A running gunicorn and ways to talk to it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
        self.process = process
        self.port = port
        self.folder = folder

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=15)

    def raw(self, data: bytes) -> bytes:
        """Everything the server answers to these bytes, until it closes."""
        with self.socket() as client:
            client.sendall(data)
            return read_all(client)

    def ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request(method, path, body, headers or {}, encode_chunked=not isinstance(body, bytes | None))
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def echo(self, path: str, **kwargs) -> dict:
        status, _, body = self.ask(kwargs.pop("method", "GET"), path, **kwargs)
        assert status == 200
        return json.loads(body)

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/status/200")[0] == 200
        except OSError:
            return False


def read_all(client: socket.socket) -> bytes:
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def until(condition: Callable[[], object], seconds: float = 15) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        select.select([], [], [], 0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(folder: Path, *arguments: str, **env: str) -> Iterator[Door]:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", "python:web.gunicorn_conf", *arguments]
    command += ["tests.front_app:app"]
    clean = {name: value for name, value in os.environ.items() if name != "PUBLIC_URL"}
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=clean | env | {"PORT": str(port), "TEST_FOLDER": str(folder)}, stderr=output
        )
        door = Door(process, port, folder)
        try:
            until(door.answers)
            yield door
        finally:
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with serving(tmp_path_factory.mktemp("door"), **QUICK) as door:
        yield door


# What the app is told


def test_query_scheme_and_address_reach_the_app(door: Door):
    told = door.echo("/echo/a?x=1&x=2")

    assert (told["query"], told["scheme"], told["ip"]) == ("x=1&x=2", "http", "127.0.0.1")


def test_encoded_paths_keep_their_bytes(door: Door):
    assert door.echo("/echo/a%2Fb%20c/jos%C3%A9%3Fq")["rest"] == "a/b c/josé?q"


def test_path_that_is_no_utf8_reaches_the_app_as_the_bytes_it_was():
    scope = scope_of("GET", raw_path=b"/caf%E9")

    assert front._environ(scope, b"")["PATH_INFO"] == "/caf\xe9"


def test_server_without_raw_path_still_gives_latin1_path():
    scope = scope_of("GET", path="/josé")
    del scope["raw_path"]

    assert front._environ(scope, b"")["PATH_INFO"].encode("latin-1") == "/josé".encode()


def test_body_of_known_length_reaches_the_app(door: Door):
    told = door.echo("/echo/a", method="POST", body=b'{"a": 1}', headers={"Content-Type": "application/json"})

    assert (told["body"], told["length"], told["kind"]) == ('{"a": 1}', 8, "application/json")


def test_chunked_body_reaches_the_app_whole(door: Door):
    told = door.echo(
        "/echo/a", method="POST", body=iter([b"one,", b"two,", b"three"]), headers={"Transfer-Encoding": "chunked"}
    )

    assert (told["body"], told["length"]) == ("one,two,three", 13)
    assert "HTTP_TRANSFER_ENCODING" not in told["names"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_request_without_body_has_an_empty_one(door: Door, method: str):
    assert door.echo("/echo/a", method=method)["body"] == ""


def test_several_cookie_headers_are_one(door: Door):
    answer = door.raw(
        b"GET /echo/a HTTP/1.1\r\nHost: a\r\nCookie: one=1\r\nCookie: two=2\r\n"
        b"X-Shared: a\r\nX-Shared: b\r\nConnection: close\r\n\r\n"
    )
    told = json.loads(answer.partition(b"\r\n\r\n")[2])

    assert told["cookies"] == {"one": "1", "two": "2"}
    assert told["shared"] == "a,b"


def test_header_with_underscore_can_not_pose_as_a_guarded_one(door: Door):
    told = door.echo("/echo/a", headers={"X_Forwarded_For": "6.6.6.6", "X-Real": "yes"})

    assert "HTTP_X_REAL" in told["names"]
    assert "HTTP_X_FORWARDED_FOR" not in told["names"]


def test_scheme_of_an_untrusted_peer_is_not_believed(door: Door):
    assert door.echo("/echo/a", headers={"X-Forwarded-Proto": "https"})["scheme"] == "http"


def test_trusted_proxy_tells_the_scheme_but_not_the_address(tmp_path: Path):
    with serving(tmp_path, "-w", "1", TRUSTED_PROXIES="127.0.0.1") as door:
        told = door.echo("/echo/a", headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"})

    assert (told["scheme"], told["ip"]) == ("https", "127.0.0.1")


# What the client is told


def test_head_has_the_headers_of_get_and_no_body(door: Door):
    answer = door.raw(b"HEAD /cookies HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200")
    assert b"content-length: 3\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("status", [204, 304])
def test_answers_that_must_have_no_body_have_none(door: Door, status: int):
    answer = door.raw(f"GET /status/{status} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())

    assert answer.startswith(f"HTTP/1.1 {status}".encode())
    assert answer.endswith(b"\r\n\r\n")


def test_no_content_has_no_length(door: Door):
    assert b"content-length" not in door.raw(b"GET /status/204 HTTP/1.0\r\n\r\n").lower()


def test_every_set_cookie_is_kept(door: Door):
    assert door.ask("GET", "/cookies")[1].get_all("Set-Cookie") == ["one=1; Path=/", "two=2; Path=/"]


def test_streamed_answer_is_collected_and_measured(door: Door):
    _, headers, body = door.ask("GET", "/stream")

    assert (headers["Content-Length"], body) == ("3", b"abc")


def test_server_header_tells_no_product_and_no_version(door: Door):
    assert door.ask("GET", "/status/200")[1].get_all("Server") == ["web"]


def test_error_shows_no_details(door: Door):
    status, headers, body = door.ask("GET", "/boom")

    assert (status, body.decode()) == (500, "Algo deu errado.")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"


def test_connection_is_kept_after_an_answer(door: Door):
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=15)
    for _ in range(3):
        connection.request("POST", "/echo/a", b"x" * 70_000)
        assert len(json.loads(connection.getresponse().read())["body"]) == 70_000
    connection.close()


def test_websocket_is_refused(door: Door):
    answer = door.raw(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )

    assert answer.startswith(b"HTTP/1.1 403")


# Bodies that are too large, too slow or cut off


def test_largest_body_is_taken(door: Door):
    assert door.ask("POST", "/echo/a", b"x" * front.MAX_BODY)[0] == 200


def test_body_declared_too_large_is_refused_before_it_is_sent(door: Door):
    answer = door.raw(b"POST /echo/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1048577\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413")
    assert "O envio é grande demais." in answer.decode()
    for header in (b"cache-control: no-store", b"x-content-type-options: nosniff", b"frame-ancestors 'none'"):
        assert header in answer.lower()


@pytest.mark.parametrize("https", [True, False])
def test_own_answers_tell_browsers_to_keep_to_https_where_that_is_the_address(https: bool):
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-length", b"99999999")]}
    asyncio.run(front.create(lambda *_: [], https=https)(scope, receive, send))

    assert told[0]["status"] == 413
    header = (b"strict-transport-security", b"max-age=31536000")
    assert (header in told[0]["headers"]) == https


def test_client_that_asks_first_is_told_to_go_on(door: Door):
    with door.socket() as client:
        client.sendall(
            b"POST /echo/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
        )
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")

        assert json.loads(read_all(client).partition(b"\r\n\r\n")[2])["body"] == "abc"


def test_client_that_sends_too_much_at_once_still_reads_its_413(door: Door):
    status, headers, _ = door.ask("POST", "/echo/a", b"x" * 3 * front.MAX_BODY)

    assert (status, headers["Connection"]) == (413, "close")


def test_chunked_body_that_grows_too_large_is_refused(door: Door):
    chunks = iter([b"x" * 65536] * 17)

    assert door.ask("POST", "/echo/a", chunks, {"Transfer-Encoding": "chunked"})[0] == 413


def test_body_that_does_not_come_in_time_is_refused(door: Door):
    answer = door.raw(b"POST /echo/a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer


def test_client_that_leaves_amid_its_body_is_forgotten(door: Door):
    with door.socket() as client:
        client.sendall(b"POST /store HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")

    assert door.ask("POST", "/store", b"whole")[0] == 200
    assert (door.folder / "stored").read_bytes() == b"whole\n"


def test_connection_that_sends_no_request_is_closed(door: Door):
    assert door.raw(b"") == b""


def test_connection_whose_headers_never_end_is_closed(door: Door):
    assert door.raw(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ") == b""


def test_connection_that_reads_no_answer_is_closed(door: Door):
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", door.port))
        client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: not held_by(door, client.getsockname()[1]))


def held_by(door: Door, port: int) -> bool:
    connections = [c for worker in door.workers() for c in worker.net_connections("tcp")]
    return any(c.raddr and c.raddr.port == port for c in connections)


# Requests that two servers might read in two ways

HOST = b"Host: a\r\n"
SMUGGLED = b"GET /store HTTP/1.1\r\nHost: a\r\n\r\n"
AMBIGUOUS = {
    "content length and chunked": HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": HOST + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
    "two equal lengths": HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "list of lengths": HOST + b"Content-Length: 3, 3\r\n\r\nabc",
    "signed length": HOST + b"Content-Length: +3\r\n\r\nabc",
    "length with underscore": HOST + b"Content-Length: 1_0\r\n\r\nabcdefghij",
    "huge length": HOST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "bare line feeds": b"Host: a\nContent-Length: 3\n\nabc",
    "bare line feed after a header": b"Host: a\nX: b\r\n\r\n",
    "bare carriage return": b"Host: a\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n",
    "space before the colon": HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "folded header": HOST + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n",
    "unknown coding": HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunk size with sign": HOST + b"Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n",
    "chunk size with 0x": HOST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    "chunk without its end": HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    "bare line feed in chunk": HOST + b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
    "two hosts": HOST + HOST + b"\r\n",
    "null in a header": HOST + b"X: a\0b\r\n\r\n",
}


@pytest.mark.parametrize("rest", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_ambiguous_request_ends_the_connection(door: Door, rest: bytes):
    answer = door.raw(b"POST /echo/a HTTP/1.1\r\n" + rest + SMUGGLED)

    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) in ([], [b"400"], [b"501"])


def test_rest_of_a_refused_body_is_never_read_as_a_request(door: Door):
    head = b"POST /echo/a HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n"
    answer = door.raw(head + SMUGGLED * 100)

    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"413"]


# Overload and signals


def test_more_requests_than_can_wait_are_told_to_come_back(tmp_path: Path):
    with serving(tmp_path, "-w", "1", TEST_MAX_WAITING="3") as door, ExitStack() as stack:
        for n in range(3):
            client = stack.enter_context(door.socket())
            client.sendall(f"GET /hold/{n} HTTP/1.1\r\nHost: a\r\nCookie: visitor={n}\r\n\r\n".encode())
        until(lambda: len(list(tmp_path.glob("holding-*"))) == 3)
        status, headers, body = door.ask("POST", "/store", b"one too many")
        (tmp_path / "release").touch()
        until(door.answers)

    assert (status, headers["Retry-After"]) == (503, "2")
    assert body.decode() == "Muita gente ao mesmo tempo. Tente de novo em alguns segundos."
    assert not (tmp_path / "stored").exists()


def test_large_bodies_are_refused_when_memory_is_full_and_small_ones_are_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(front, "MAX_HELD", 100)
    monkeypatch.setattr(front, "SMALL_BODY", 50)
    door = front.create(length_app)
    door._held = 90

    assert asyncio.run(call(door, b"x" * 50)).status == 200
    assert asyncio.run(call(door, b"x" * 51)).status == 503
    assert door._held == 90


def test_terminated_server_finishes_what_it_has_begun(tmp_path: Path):
    with serving(tmp_path) as door, ExitStack() as stack:
        clients = [stack.enter_context(door.socket()) for _ in range(6)]
        for n, client in enumerate(clients):
            client.sendall(f"GET /hold/{n} HTTP/1.1\r\nHost: a\r\nCookie: visitor={n}\r\n\r\n".encode())
        until(lambda: len(list(tmp_path.glob("holding-*"))) == 6)
        door.process.terminate()
        until(lambda: not door.answers())
        (tmp_path / "release").touch()

        assert [read_all(client)[:12] for client in clients] == [b"HTTP/1.1 200"] * 6
        assert door.process.wait(15) == 0


@pytest.mark.slow
def test_thousand_slow_clients_do_not_slow_down_a_notice(tmp_path: Path):
    with serving(tmp_path) as door, ExitStack() as stack:
        opening = time.monotonic()
        slow = [stack.enter_context(door.socket()) for _ in range(1000)]
        began = time.monotonic()
        for n, client in enumerate(slow):
            client.sendall(
                b"POST /store HTTP/1.1\r\nHost: a\r\n" + (b"X: " if n % 2 else b"Content-Length: 9\r\n\r\nab")
            )
        times = []
        while time.monotonic() < began + 4:
            start = time.monotonic()
            assert door.ask("POST", "/store", b"notice")[0] == 200
            times.append(time.monotonic() - start)
        answers = [read_all(client)[:12] for client in slow]

    assert began - opening < 2, "connections had to knock twice: is the listening queue short?"
    assert max(times) < 0.5
    assert answers == [b"HTTP/1.1 408", b""] * 500
    assert set((tmp_path / "stored").read_text().split()) == {"notice"}


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # gone since it was listed
        return False


@pytest.mark.slow
def test_killed_worker_loses_nothing_that_was_acknowledged(tmp_path: Path):
    acked: list[str] = []
    stop = threading.Event()

    def post(door: Door, name: int) -> None:
        for n in range(100_000):
            if stop.is_set():
                return
            try:
                if door.ask("POST", "/store", f"{name}-{n}".encode())[0] == 200:
                    acked.append(f"{name}-{n}")
            except (OSError, http.client.HTTPException):
                pass

    with serving(tmp_path) as door:
        clients = [threading.Thread(target=post, args=(door, name)) for name in range(8)]
        for client in clients:
            client.start()
        for _ in range(3):
            goal = len(acked) + 100
            until(lambda goal=goal: len(acked) > goal)
            door.workers()[0].kill()
            until(lambda: len([worker for worker in door.workers() if lives(worker)]) == 2)
        goal = len(acked) + 100
        until(lambda: len(acked) > goal)
        stop.set()
        for client in clients:
            client.join()

    assert set(acked) <= set((tmp_path / "stored").read_text().split())


# The adapter by itself


def length_app(environ, start_response):
    start_response("200 OK", [("Content-Length", "999")])
    return [str(len(environ["wsgi.input"].read())).encode()]


def scope_of(method: str, **others) -> dict:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    } | others


async def call(app: front.Front, *chunks: bytes) -> front.Answer:
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request"})

    async def receive() -> dict:
        return messages.pop(0)

    return await answer_to(app, receive)


async def answer_to(app: front.Front, receive: front.Receive) -> front.Answer:
    sent = []

    async def send(message: dict) -> None:
        sent.append(message)

    await app(scope_of("POST"), receive, send)
    return front.Answer(sent[0]["status"], sent[0]["headers"], sent[1]["body"])


def test_body_that_trickles_is_refused_though_bytes_keep_coming(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(front, "BODY_SECONDS", 0.05)
    monkeypatch.setattr(front, "LINGER_SECONDS", 0)

    async def receive() -> dict:
        await asyncio.sleep(0.005)
        return {"type": "http.request", "body": b"x", "more_body": True}

    assert asyncio.run(answer_to(front.create(length_app), receive)).status == 408


def test_length_the_app_claims_is_replaced_by_the_true_one():
    answer = asyncio.run(call(front.create(length_app), b"ab", b"c"))

    assert answer.body == b"3"
    assert (b"content-length", b"1") in answer.headers


def test_answer_is_closed_even_when_making_it_fails():
    closed = []

    class Failing:
        def __iter__(self):
            yield b"half"
            raise RuntimeError

        def close(self):
            closed.append(True)

    def app(environ, start_response):
        start_response("200 OK", [])
        return Failing()

    assert asyncio.run(call(front.create(app))).status == 500
    assert closed == [True]


def test_app_that_starts_no_answer_is_an_error():
    assert asyncio.run(call(front.create(lambda environ, start_response: []))).status == 500


def test_bytes_given_to_write_are_sent():
    def app(environ, start_response):
        start_response("200 OK", [])(b"written, ")
        return [b"returned"]

    assert asyncio.run(call(front.create(app))).body == b"written, returned"
