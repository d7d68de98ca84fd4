from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.proxies import client_ip

OURS = tuple(ipaddress.ip_network(text) for text in ("127.0.0.1/32", "10.0.0.0/8", "fd00::/8"))


def test_without_proxies_the_header_counts_for_nothing():
    assert client_ip("203.0.113.7", "1.2.3.4", ()) == "203.0.113.7"


def test_untrusted_peer_is_the_client_whatever_it_claims():
    assert client_ip("203.0.113.7", "127.0.0.1", OURS) == "203.0.113.7"


def test_trusted_proxy_tells_the_client():
    assert client_ip("10.0.0.1", "203.0.113.7", OURS) == "203.0.113.7"


def test_hops_written_by_the_client_are_not_believed():
    assert client_ip("10.0.0.1", "1.1.1.1, 10.9.9.9, 203.0.113.7, 10.0.0.2", OURS) == "203.0.113.7"


def test_request_from_within_has_the_farthest_address():
    assert client_ip("127.0.0.1", "10.0.0.3, 10.0.0.2", OURS) == "10.0.0.3"


@pytest.mark.parametrize("header", ["", " ", "unknown", ",", "1.2.3.4, ", "1.2.3.4, _hidden", "1.2.3.4, 999.1.1.1"])
def test_garbage_beside_the_proxy_ends_the_search(header: str):
    assert client_ip("10.0.0.1", header, OURS) == "10.0.0.1"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("203.0.113.7:5678", "203.0.113.7"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:5678", "2001:db8::1"),
        ('"[2001:db8::1]:5678"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
    ],
)
def test_every_way_to_write_an_address_is_read(written: str, read: str):
    assert client_ip("10.0.0.1", written, OURS) == read


def test_proxy_that_writes_itself_as_mapped_ipv6_is_still_ours():
    assert client_ip("::ffff:10.0.0.1", "203.0.113.7", OURS) == "203.0.113.7"


def test_proxy_over_ipv6_is_ours():
    assert client_ip("fd00::1", "2001:db8::9", OURS) == "2001:db8::9"


def test_peer_without_address_stays_as_it_is():
    assert client_ip("", "203.0.113.7", OURS) == ""


@given(st.text())
def test_no_header_can_break_it_or_make_up_more_than_an_address(header: str):
    ipaddress.ip_address(client_ip("10.0.0.1", header, OURS))
