"""All fakes together, and a whole sale told with nothing but them."""

from __future__ import annotations

import requests

from tests.world import Entry, World


def test_the_settings_point_at_the_fakes() -> None:
    with World() as world:
        env = world.env()

        assert sorted(env) == ["META_GRAPH_URL", "PUSHINPAY_API_URL", "TELEGRAM_API_URL", "WOOVI_API_URL"]
        assert env["PUSHINPAY_API_URL"].endswith("/api")
        assert len({url.split(":")[2] for url in env.values()}) == 4
        assert all(url.startswith("http://127.0.0.1:") for url in env.values())


def test_the_ledger_tells_what_the_bank_says() -> None:
    with World() as world:
        world.pushinpay.add_account("token")
        world.woovi.add_account("app-id")
        bearer = {"Authorization": "Bearer token", "Accept": "application/json"}
        cash_in = f"{world.env()['PUSHINPAY_API_URL']}/pix/cashIn"
        first = requests.post(cash_in, json={"value": 4990}, headers=bearer, timeout=5).json()
        charge = f"{world.env()['WOOVI_API_URL']}/api/v1/charge"
        asked = {"correlationID": "ref", "value": 2990}
        requests.post(charge, json=asked, headers={"Authorization": "app-id"}, timeout=5)
        world.pushinpay.pay(first["id"], amount=4000)

        assert [(entry.gateway, entry.reference, entry.cents) for entry in world.ledger()] == [
            ("pushinpay", "", 4990),
            ("woovi", "ref", 2990),
        ]
        [paid] = world.paid()
        assert isinstance(paid, Entry)
        assert (paid.provider_id, paid.account, paid.paid_cents, paid.refunded_cents) == (first["id"], "token", 4000, 0)


def test_refusals_of_all_are_in_one_place() -> None:
    with World() as world:
        assert not world.refusals

        requests.get(f"{world.telegram.url}/bot1:x/getMe", timeout=5)
        requests.get(f"{world.woovi.url}/api/v1/charge/x", timeout=5)
        assert [refusal.status for refusal in world.refusals] == [401, 401]
