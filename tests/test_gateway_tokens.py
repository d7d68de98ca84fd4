"""Access tokens of providers: asked for once, asked for anew when they end or are not taken any more."""

from __future__ import annotations

import pytest

from gateways import tokens
from gateways.base import (
    Account,
    BadGatewayAnswer,
    GatewayError,
    GatewayMisconfigured,
    GatewayTimeout,
    GatewayUnreachable,
)
from gateways.tokens import Tokens


class Provider:
    """Gives a token a call, good for an hour; takes only the last one."""

    def __init__(self, seconds: float = 3600.0) -> None:
        self.given = 0
        self.seconds = seconds

    def fetch(self, account: Account) -> tuple[str, float]:
        self.given += 1
        return f"{account.credentials['id']}-{self.given}", self.seconds

    def ask(self, token: str) -> str:
        if not token.endswith(f"-{self.given}"):
            raise GatewayMisconfigured("expired")
        return token


def account(name: str = "a") -> Account:
    return Account("https://gateway.test", {"id": name})


def test_a_token_is_asked_for_once() -> None:
    provider = Provider()
    held = Tokens(provider.fetch)

    assert [held.call(account(), provider.ask) for _ in range(3)] == ["a-1"] * 3


def test_each_account_has_its_own() -> None:
    held = Tokens(lambda about: (about.credentials["id"], 3600.0))

    assert [held.call(account(name), str) for name in ("a", "b", "a")] == ["a", "b", "a"]


def test_a_token_is_asked_for_anew_shortly_before_its_end() -> None:
    provider = Provider(seconds=tokens.EARLY_S - 1)
    held = Tokens(provider.fetch)

    assert [held.call(account(), provider.ask) for _ in range(2)] == ["a-1", "a-2"]


def test_a_token_that_is_not_taken_any_more_is_replaced_once() -> None:
    provider = Provider()
    held = Tokens(provider.fetch)
    held.call(account(), provider.ask)
    provider.given += 1  # somebody else asked for one, and ours is over

    assert held.call(account(), provider.ask) == "a-3"


def test_credentials_that_are_refused_with_a_new_token_are_refused() -> None:
    provider = Provider()

    def refuse(token: str) -> str:
        raise GatewayMisconfigured("no")

    with pytest.raises(GatewayMisconfigured):
        Tokens(provider.fetch).call(account(), refuse)
    assert provider.given == 1


@pytest.mark.parametrize("error", [GatewayTimeout("slow"), BadGatewayAnswer("answered 500")])
def test_without_a_token_nothing_was_asked_for(error: GatewayError) -> None:
    def fetch(account: Account) -> tuple[str, float]:
        raise error

    with pytest.raises(GatewayUnreachable):
        Tokens(fetch).call(account(), lambda token: pytest.fail("asked without a token"))


def test_no_more_are_held_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST", 2)
    provider = Provider()
    held = Tokens(provider.fetch)

    for name in ("a", "b", "c", "c", "a"):
        held.call(account(name), str)

    assert provider.given == 4


def test_neither_tokens_nor_credentials_are_told() -> None:
    held = Tokens(lambda about: ("canary-token", 3600.0))
    held.call(account("canary-id"), str)

    assert "canary" not in f"{held!r} {list(held._held)}"
