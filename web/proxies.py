"""Whose request it is, when proxies stand before us."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_ip(remote_addr: str, x_forwarded_for: str, trusted_networks: Iterable[Network]) -> str:
    """The right-most hop that is no proxy of ours; what stands left of it anybody may have written.

    x_forwarded_for: the header as it came, several of them joined by commas, or "".
    A hop that is no address ends the search: the last proxy before it is as far as can be told.
    """
    networks = tuple(trusted_networks)
    known = remote_addr
    for hop in [remote_addr, *reversed(x_forwarded_for.split(","))]:
        address = _address(hop)
        if address is None:
            return known
        known = str(address)
        if not any(address in network for network in networks):
            return known
    return known


def _address(hop: str) -> Address | None:
    """An address as proxies write it: with or without port, brackets and quotes."""
    text = hop.strip(' \t"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
