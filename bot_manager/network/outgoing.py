"""The one way out to addresses that sellers give: to the public internet and nowhere else.

A seller's address may name this machine, its network or a cloud's metadata server, outright or through a name whose
answer changes between two look-ups. So the address is judged where the socket is opened: looked up once, each answer
checked, and the connection made to that very answer. Addresses that the operator sets do not pass here.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from bot_manager.network import wire

SCHEMES = {"http", "https"}
PORTS = {80, 443, 8080, 8443}
BOUNDS = wire.Bounds(connect_s=3.0, read_s=5.0, answer_s=8.0, body_bytes=64 * 1024)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Found = list[tuple[socket.AddressFamily, tuple[str, int]]]

# Written out: what `is_private` and `is_global` mean has changed between releases of Python.
_CLOSED = [
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),  # protocols, documentation, 6to4
    )
]
_OPEN_V6 = ipaddress.IPv6Network("2000::/3")  # all else is local, mapped, translated or given to nobody


class Forbidden(wire.WireError):
    """The address is not one that a seller may have us call: nothing was sent."""

    permanent = True


class UnknownName(wire.NotSent):
    """No such host is known: nothing was sent."""


def status_of(url: str) -> int:
    """What a GET of the address is answered; redirects are not followed. Raises wire.WireError."""
    response = _adapter.exchange(wire.prepared("GET", checked(url), {"Accept": "*/*"}))
    response.close()
    return int(response.status_code)


def checked(url: str) -> str:
    """The address, if its form is allowed; where it leads is judged when it is called. Raises Forbidden."""
    try:
        parts = parse_url(url)
    except LocationParseError:
        raise Forbidden("the address can't be read") from None
    if parts.scheme not in SCHEMES or not parts.host:
        raise Forbidden("the address is not http or https")
    if "@" in re.split("[/?#]", url.partition("://")[2])[0]:
        raise Forbidden("the address carries a user")
    if parts.port is not None and parts.port not in PORTS:
        raise Forbidden("the address has a port that is not for the web")
    if "\\" in url or not url.isprintable() or " " in url:
        raise Forbidden("the address has characters that no address has")
    return url


def is_public(address: Address) -> bool:
    """Whether the public internet is where it leads."""
    if isinstance(address, ipaddress.IPv6Address) and address not in _OPEN_V6:
        return False
    return not any(address in network for network in _CLOSED)


def _dial(host: str, port: int, seconds: float) -> socket.socket:
    """A connection to one of the host's addresses, none of which may be closed to us. Raises Forbidden, OSError."""
    ends = time.monotonic() + seconds
    refused: OSError | None = None
    for family, address in _looked_up(host, port, seconds):
        try:
            return _connected(family, address, max(0.1, ends - time.monotonic()))
        except OSError as error:
            refused = error
    raise refused or OSError("the host has no address")


def _looked_up(host: str, port: int, seconds: float) -> Found:
    if port not in PORTS:
        raise Forbidden("the address has a port that is not for the web")
    try:
        found = wire.look_up(host, port, seconds)
    except socket.gaierror:
        raise UnknownName("no such host is known") from None
    addresses: Found = [(one[0], (str(one[4][0]), port)) for one in found]
    if not all(is_public(ipaddress.ip_address(where[0])) for _, where in addresses):
        raise Forbidden("the address leads into a private network")
    return addresses


def _connected(family: socket.AddressFamily, address: tuple[str, int], seconds: float) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.settimeout(seconds)
        made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


_adapter = wire.Adapter(BOUNDS, dial=_dial)
