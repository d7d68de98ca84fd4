"""Redirect links: the click is kept with what it told, and the visitor goes on at once."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
import requests

from tests.line import Line
from tests.shops import Shop, open_shop
from tracking.clicks import Visitor, recover_by_tracking_token


def visit(shop: Shop, query: str = "", **request: object) -> requests.Response:
    return requests.get(f"{shop.line.url}/go/{shop.slug}{query}", allow_redirects=False, timeout=5, **request)


def kept(shop: Shop, answer: requests.Response) -> tuple[dict, Visitor]:
    token = answer.headers["Location"].partition("?start=")[2]
    with shop.line.seller(shop.seller_id):
        click, visitor = recover_by_tracking_token(token)
        return {"fbclid": click.fbclid, "params": click.params, "not_a_person": click.not_a_person}, visitor


def test_a_visitor_is_sent_to_the_bot_with_a_token_that_telegram_takes(line: Line) -> None:
    shop = open_shop(line)

    answer = visit(shop)

    address, _, token = answer.headers["Location"].partition("?start=")
    assert answer.status_code == 302
    assert address.startswith("https://t.me/loja")
    assert len(token) <= 64
    assert token.replace("-", "").replace("_", "").isalnum()
    assert answer.headers["Cache-Control"] == "no-store"


def test_all_that_tells_where_the_visitor_came_from_is_kept(line: Line) -> None:
    shop = open_shop(line)
    query = "?fbclid=IwAR0_x-1&utm_source=ig&utm_campaign=a%20b&src=s1&sck=k1&other=no"
    headers = {"User-Agent": "Mozilla/5.0 x", "Referer": "https://l.instagram.com/"}

    click, visitor = kept(shop, visit(shop, query, headers=headers, cookies={"_fbp": "fb.1.1700000000000.42"}))

    assert click == {
        "fbclid": "IwAR0_x-1",
        "params": {"utm_source": "ig", "utm_campaign": "a b", "src": "s1", "sck": "k1"},
        "not_a_person": None,
    }
    assert (visitor.user_agent, visitor.referrer, visitor.fbp) == (
        "Mozilla/5.0 x",
        "https://l.instagram.com/",
        "fb.1.1700000000000.42",
    )
    assert visitor.fbc.endswith(".IwAR0_x-1")


def test_a_forwarded_address_counts_only_from_a_proxy_of_ours(line: Line) -> None:
    shop = open_shop(line)
    spoofed = {"X-Forwarded-For": "203.0.113.9"}

    _, visitor = kept(shop, visit(shop, headers=spoofed))
    assert visitor.ip == "127.0.0.1"
    line.app.extensions["settings"] = replace(line.settings, trusted_proxies=(ip_network("127.0.0.1"),))
    _, visitor = kept(shop, visit(shop, headers=spoofed))
    assert visitor.ip == "203.0.113.9"


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        ("facebookexternalhit/1.1", "fetcher facebookexternalhit"),
        ("TelegramBot (like TwitterBot)", "fetcher telegrambot"),
        ("Mozilla/5.0 (iPhone) [FBAN/FBIOS;FBAV/450.0]", None),
        ("Mozilla/5.0 (Linux; Android 14) MetaIAB Facebook", None),
        ("Mozilla/5.0 Instagram 300.0", None),
    ],
)
def test_a_preview_fetcher_gets_a_token_and_is_left_out_of_counts(line: Line, agent: str, reason: str | None) -> None:
    shop = open_shop(line)

    click, _ = kept(shop, visit(shop, headers={"User-Agent": agent}))

    assert click["not_a_person"] == reason


@pytest.mark.parametrize("slug", ["nothing", "%00", "a" * 3000, "é"])
def test_an_unknown_link_is_a_page_and_not_an_error(line: Line, slug: str) -> None:
    answer = requests.get(f"{line.url}/go/{slug}", timeout=5)

    assert answer.status_code == 404
    assert "link" in answer.text.lower()


def test_a_link_to_a_bot_that_nobody_knows_yet_asks_for_patience(line: Line) -> None:
    shop = open_shop(line)
    line.change("update bot set username = null")

    answer = visit(shop)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
    assert line.rows("select 1 from click") == []


def test_a_link_may_show_a_page_that_leads_to_the_same_place(line: Line) -> None:
    shop = open_shop(line)
    line.change("update link set mode = 'page'")

    answer = visit(shop)

    assert answer.status_code == 200
    assert "https://t.me/loja" in answer.text
    assert len(line.rows("select 1 from click")) == 1
