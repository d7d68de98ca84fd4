"""Addresses that sellers give: only the public internet is called, whatever they say and whoever answers."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator

import pytest

from bot_manager.network import outgoing, wire
from tests.test_gateway_http import Server, answer, dripping

PUBLIC = "93.184.215.14"
Connect = Callable[[socket.socket, tuple[str, int]], None]


class Network:
    """What names mean here, and every connection that was begun. A public address leads to a server of the test's."""

    def __init__(self) -> None:
        self.names: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self.opened: list[str] = []
        self.server: tuple[str, int] | None = None

    def look_up(self, host: str, port: int, *_: object) -> list[tuple[object, ...]]:
        self.asked.append(host)
        answers = self.names.get(host)
        if answers is None:
            return REAL_LOOK_UP(host, port, 0, socket.SOCK_STREAM)  # numbers in every notation that the system reads
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        families = [socket.AF_INET6 if ":" in ip else socket.AF_INET for ip in found]
        return [(family, socket.SOCK_STREAM, 6, "", (ip, port)) for family, ip in zip(families, found, strict=True)]

    def connect(self, sock: socket.socket, address: tuple[str, int]) -> None:
        self.opened.append(address[0])
        REAL_CONNECT(sock, self.server if self.server and address[0] == PUBLIC else address)


REAL_LOOK_UP = socket.getaddrinfo
REAL_CONNECT = socket.socket.connect


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    made = Network()
    monkeypatch.setattr(socket, "getaddrinfo", made.look_up)

    def connect(sock: socket.socket, address: tuple[str, int]) -> None:
        made.connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    made.names["loja.test"] = [[PUBLIC]]
    return made


def serving(network: Network, server: Server) -> None:
    host, port = server.address.split(":")
    network.server = (host, int(port))


# Where it must not lead -------------------------------------------------------------------------------------------

PRIVATE = [
    "127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0", "0.0.0.0", "10.0.0.1",
    "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.127.255.254",
    "192.0.0.192", "198.18.0.1", "192.0.2.1", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[fd00::1]",
    "[fc00::1]", "[fe80::1]", "[fec0::1]", "[ff02::1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::]", "[64:ff9b::7f00:1]",
    "[64:ff9b:1::1]", "[2001::1]", "[2001:db8::1]", "[100::1]", "[5f00::1]", "localhost", "localhost.", "LOCALHOST",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_socket_is_opened_to_a_private_address(network: Network, scheme: str, host: str) -> None:
    with pytest.raises((outgoing.Forbidden, outgoing.UnknownName, wire.NoAddress)) as caught:
        outgoing.status_of(f"{scheme}://{host}/curso")

    assert network.opened == []
    assert caught.value.permanent or isinstance(caught.value, outgoing.UnknownName)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://loja.test/", "file:///etc/passwd", "gopher://loja.test:80/", "javascript:alert(1)", "//loja.test/",
        "loja.test/curso", "", "http://", "http:///x", "http://a@loja.test/", "https://loja.test@127.0.0.1/",
        "https://127.0.0.1:80\\@loja.test/", "https://user:senha@loja.test/", "https://@loja.test/",
        "http://loja.test:22/", "http://loja.test:5432/", "http://loja.test:6379/", "http://loja.test:0/",
        "http://loja.test:99999/", "http://loja.test\\@127.0.0.1/", "http://loja.test/a b", "http://loja.test/\r\nX: y",
        "http://[::1", "http://loja.test:٨٠/", "unix:///var/run/docker.sock", "http+unix://x/", "data:text/plain,x",
    ],
)  # fmt: skip
def test_an_address_of_another_form_is_not_even_looked_up(network: Network, url: str) -> None:
    with pytest.raises((outgoing.Forbidden, wire.NoAddress)) as caught:
        outgoing.status_of(url)

    assert caught.value.permanent
    assert (network.asked, network.opened) == ([], [])


def test_a_name_that_is_public_and_private_at_once_is_refused(network: Network) -> None:
    for both in ([PUBLIC, "10.0.0.5"], ["::1", PUBLIC], ["fe80::1%eth0"]):
        network.names["misto.test"] = [both]
        with pytest.raises(outgoing.Forbidden, match="private"):
            outgoing.status_of("http://misto.test/")

    assert network.opened == []


def test_a_name_that_turns_private_after_the_check_wins_nothing(network: Network) -> None:
    """It is looked up once, and the socket goes to what was checked."""
    network.names["muda.test"] = [[PUBLIC], ["127.0.0.1"]]
    with Server(answer()) as server:
        serving(network, server)
        assert outgoing.status_of("http://muda.test/") == 200
        with pytest.raises(outgoing.Forbidden):
            outgoing.status_of("http://muda.test/")

    assert (network.asked, network.opened) == (["muda.test", "muda.test"], [PUBLIC])


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirect_into_a_private_network_is_not_followed(network: Network, status: str) -> None:
    with Server(answer(status=status, headers="Location: http://169.254.169.254/latest/meta-data\r\n")) as server:
        serving(network, server)
        assert outgoing.status_of("http://loja.test/curso") == int(status[:3])

    assert network.opened == [PUBLIC]


def test_no_proxy_of_the_environment_takes_it_elsewhere(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:8080")
    with Server(answer()) as server:
        serving(network, server)
        assert outgoing.status_of("http://loja.test/") == 200

    assert network.opened == [PUBLIC]


@pytest.mark.parametrize("ip", ["8.8.8.8", "200.160.2.3", "223.255.255.255", "2001:4860:4860::8888", "2800:3f0::1"])
def test_the_public_internet_is_public(ip: str) -> None:
    assert outgoing.is_public(ipaddress.ip_address(ip))


# What can happen on the way ---------------------------------------------------------------------------------------


def test_a_public_address_is_asked_for_its_page_and_told_who_asks(network: Network) -> None:
    with Server(answer(status="410 Gone")) as server:
        serving(network, server)
        assert outgoing.status_of("http://loja.test:8080/curso?a=1") == 410

    head = server.requests[0].decode()
    assert head.startswith("GET /curso?a=1 HTTP/1.1\r\nHost: loja.test:8080\r\n")
    assert "Accept-Encoding: identity" in head
    assert "Authorization" not in head


def test_a_name_that_nobody_knows_is_told_apart(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for host in ("nao-existe.test", "a" * 300 + ".test", "a..test"):
        with pytest.raises((outgoing.UnknownName, wire.NoAddress)):
            outgoing.status_of(f"https://{host}/")


def test_the_second_address_is_tried_when_the_first_is_closed(network: Network) -> None:
    network.names["duas.test"] = [["93.184.215.99", PUBLIC]]
    with Server(answer()) as server:
        serving(network, server)
        closed = network.connect

        def connect(sock: socket.socket, address: tuple[str, int]) -> None:
            if address[0] == "93.184.215.99":
                network.opened.append(address[0])
                raise ConnectionRefusedError
            closed(sock, address)

        network.connect = connect  # type: ignore[method-assign]
        assert outgoing.status_of("http://duas.test/") == 200

    assert network.opened == ["93.184.215.99", PUBLIC]


def test_a_server_that_drips_or_hangs_up_is_not_waited_for(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    hasty = wire.Adapter(wire.Bounds(connect_s=1, read_s=0.3, answer_s=0.5), dial=outgoing._dial)
    monkeypatch.setattr(outgoing, "_adapter", hasty)
    for behave in (dripping(b"HTTP/1.1 200 OK\r\nX-Slow: "), lambda _server, _sock: None):
        with Server(behave) as server:
            serving(network, server)
            with pytest.raises(wire.NoAnswer) as caught:
                outgoing.status_of("http://loja.test/")
        assert not caught.value.permanent
