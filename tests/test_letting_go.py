"""Letting bots go: a token that was swapped or archived has nothing more pushed to us, and no other bot suffers."""

from __future__ import annotations

import json
from typing import Any

from bot_manager.shop.apply import apply
from bot_manager.shop.file import read
from models import db
from tests.line import Line
from tests.world import Status

OLD, NEW = "100001:AAE-old", "100002:AAE-new"
DOWN = Status(502, {"ok": False, "error_code": 502, "description": "Bad Gateway"})


def have(line: Line, email: str = "dona@example.com", **tokens: str) -> dict[str, Any]:
    """Applies a shop file with these bots, key by key. Their names at Telegram follow from their tokens."""
    for token in tokens.values():
        if token not in line.world.telegram.bots:
            line.world.telegram.add_bot(token, f"loja{token.partition(':')[0]}_bot")
    offer = {"key": "curso", "name": "Curso Completo", "price": "49.90", "delivers": []}
    bots = [{"key": key, "channel": "telegram", "token": token, "offers": ["curso"]} for key, token in tokens.items()]
    offer["delivers"] = [{"kind": "link", "url": "https://example.com/curso"}]
    file = {"seller": {"name": "Loja", "email": email}, "offers": [offer], "bots": bots}
    with line.app.app_context():
        told = apply(read(json.dumps(file).encode()))
        db.session.commit()
    return told


def connected(line: Line) -> set[str]:
    return {token for token in line.world.telegram.bots if line.world.telegram.webhook(token)}


def kept(line: Line) -> list[bytes]:
    return [
        row["old_tokens_sealed"] for row in line.rows("select old_tokens_sealed from bot") if row["old_tokens_sealed"]
    ]


def test_a_swapped_tokens_webhook_is_taken_back_and_the_token_forgotten(line: Line) -> None:
    have(line, vendas=OLD)
    line.work()
    have(line, vendas=NEW)
    assert len(kept(line)) == 1
    assert OLD.encode() not in kept(line)[0]
    line.work()
    assert connected(line) == {NEW}
    assert kept(line) == []


def test_an_archived_bots_webhook_is_taken_back_and_set_again_when_it_returns(line: Line) -> None:
    have(line, vendas=OLD)
    line.work()
    have(line)
    line.work()
    assert connected(line) == set()
    have(line, vendas=OLD)
    line.work()
    assert connected(line) == {OLD}


def test_tokens_swapped_again_and_again_are_all_let_go(line: Line) -> None:
    tokens = [f"{200000 + n}:AAE-{n}" for n in range(4)]
    for token in tokens:
        have(line, vendas=token)
        line.change(
            "update procrastinate_jobs set scheduled_at = now() + interval '1 hour' where task_name = 'disconnect_bot'"
        )
        line.work()
    assert connected(line) == set(tokens)
    line.change("update procrastinate_jobs set scheduled_at = null where status = 'todo'")
    line.work()
    assert connected(line) == {tokens[-1]}


def test_a_webhook_that_points_elsewhere_is_nobodys_business_of_ours(line: Line) -> None:
    have(line, vendas=OLD)
    line.work()
    box = line.world.telegram.postman.box(line.world.telegram.bot(OLD))
    elsewhere = type(box.webhook)("https://another.example.com/hook", "", 40)
    box.webhook = elsewhere
    have(line)
    line.work()
    assert box.webhook == elsewhere


def test_a_token_that_went_to_another_bot_keeps_that_bots_webhook(line: Line) -> None:
    have(line, vendas=OLD)
    line.work()
    told = have(line, outra=OLD)
    line.work()
    webhook = line.world.telegram.webhook(OLD)
    assert webhook
    assert webhook.url == told["bots"]["outra"]["webhook_url"]


def test_who_got_the_token_while_it_was_let_go_is_connected_again(line: Line) -> None:
    have(line, vendas=OLD)
    line.work()
    have(line)
    # Another seller's bot has it by now, and its own connection is over: what we take back would be its.
    have(line, email="outra@example.com", vendas=OLD)
    line.change("delete from procrastinate_jobs where task_name = 'connect_bot'")
    line.work()
    webhook = line.world.telegram.webhook(OLD)
    assert webhook
    live = line.rows("select public_id from bot where archived_at is null")
    assert webhook.url.endswith(live[0]["public_id"])


def test_while_telegram_is_away_letting_go_is_tried_again(line: Line) -> None:
    have(line, vendas=OLD)
    line.work()
    line.world.telegram.fail("/getWebhookInfo", how=DOWN)
    have(line)
    line.work()
    assert connected(line) == {OLD}
    line.pass_time(61)
    assert connected(line) == set()


def test_a_revoked_token_is_let_go_without_a_word(line: Line) -> None:
    have(line, vendas=OLD)
    line.work()
    line.world.telegram.revoke(OLD)
    have(line, vendas=NEW)
    line.work()
    assert kept(line) == []
    assert line.rows("select 1 from timer where key like 'disconnect:%'") == []


def test_what_waits_for_an_archived_bots_customers_is_kept_and_goes_out_when_it_is_back(line: Line) -> None:
    have(line, vendas=OLD)
    line.work()
    line.world.telegram.fail("/sendMessage", how=DOWN)
    person = line.world.telegram.person()
    person.start(OLD)
    line.work()
    have(line)
    line.pass_time(10)
    assert line.rows("select state from message") == [{"state": "queued"}]
    have(line, vendas=OLD)
    line.work()
    assert line.rows("select state from message") == [{"state": "sent"}]
