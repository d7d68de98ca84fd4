"""Security events: one for each attack, in the transaction that saw it, and never more than a table can bear."""

from __future__ import annotations

import logging
from io import StringIO
from threading import Barrier, Thread

import pytest
import requests
from flask import Flask
from sqlalchemy import Engine, text

from bot_manager import log
from bot_manager.security import events
from bot_manager.security.events import Kind
from models import db
from tests.line import Line
from tests.shops import open_shop
from tests.test_doors import notice_url, push
from web.panel.states import SECURITY


def seen(line: Line) -> list[dict]:
    return line.rows("select * from security_event order by id")


def test_each_attack_leaves_one_event_with_its_trace(line: Line) -> None:
    shop = open_shop(line, gateways=("woovi", "pushinpay"))
    seller, gateway = shop.seller_id, shop.gateways["woovi"]

    requests.post(f"{line.url}/webhook/pushinpay/wrong-secret", data=b"{}", timeout=5)
    requests.post(f"{line.url}/webhook/acme/{notice_url(shop, 'woovi').rpartition('/')[2]}", data=b"{}", timeout=5)
    push(shop, b"{}", **{"X-Telegram-Bot-Api-Secret-Token": "wrong"})
    requests.post(notice_url(shop, "woovi"), data=b'{"a": 1}', timeout=5)

    found = seen(line)
    assert [(e["kind"], e["seller_id"], e["repeats"]) for e in found] == [
        ("wrong_webhook_secret", None, 1),  # two from one sender in one minute
        ("wrong_telegram_secret", seller, 0),
        ("forged_notice", seller, 0),
    ]
    assert all(e["trace_id"] and e["origin"] == "127.0.0.1" for e in found)
    assert len({e["trace_id"] for e in found}) == 3
    receipt = line.rows("select id, trace_id from webhook_receipt")[0]
    assert found[-1]["detail"] == {"gateway": gateway, "receipt": receipt["id"]}
    assert found[-1]["trace_id"] == receipt["trace_id"]


def test_two_forged_notices_are_two_events_and_one_told_again_is_counted(line: Line) -> None:
    shop = open_shop(line, gateways=("woovi",))

    for body in (b'{"a": 1}', b'{"a": 2}', b'{"a": 2}'):
        requests.post(notice_url(shop, "woovi"), data=body, timeout=5)

    one, two = (row["id"] for row in line.rows("select id from webhook_receipt order by id"))
    assert [(e["detail"]["receipt"], e["repeats"]) for e in seen(line)] == [(one, 0), (two, 1)]


def test_what_is_rolled_back_leaves_no_event(app: Flask) -> None:
    events.report(Kind.FORGED_NOTICE, 1, receipt=1)
    db.session.rollback()

    assert db.session.execute(text("select count(*) from security_event")).scalar_one() == 0


def test_a_flood_from_one_sender_is_one_row(app: Flask) -> None:
    events.origin.set("198.51.100.7")
    for _ in range(500):
        events.report(Kind.WRONG_WEBHOOK_SECRET, gateway_kind="pushinpay")
    db.session.commit()

    rows = db.session.execute(text("select origin, sum(repeats + 1) from security_event group by 1")).all()
    assert rows == [("198.51.100.7", 500)]
    assert db.session.execute(text("select count(*) from security_event")).scalar_one() <= 2  # the minute may turn


def test_a_flood_from_everywhere_is_a_bounded_number_of_rows_and_all_of_it_is_counted(app: Flask) -> None:
    for number in range(300):
        events.origin.set(f"10.{number}")
        events.report(Kind.WRONG_WEBHOOK_SECRET, gateway_kind="pushinpay")
        events.report(Kind.FORGED_NOTICE, 7, f"receipt {number}", receipt=number)
    db.session.commit()

    rows = db.session.execute(text("select kind, count(*), sum(repeats + 1) from security_event group by 1")).all()
    assert {kind: total for kind, _, total in rows} == {"wrong_webhook_secret": 300, "forged_notice": 300}
    assert all(count <= 2 * (events.MOST_A_MINUTE + 1) for _, count, _ in rows)  # the minute may turn
    others = "select count(*), count(seller_id) from security_event where origin = '' and detail = '{}'"
    assert db.session.execute(text(others)).one() in ((2, 0), (4, 0))


def test_a_flood_from_many_at_once_loses_no_count_and_answers_all(line: Line) -> None:
    together = Barrier(8)

    def attack() -> None:
        together.wait()
        for _ in range(10):
            assert requests.post(f"{line.url}/webhook/pushinpay/x", data=b"{}", timeout=10).status_code == 404

    threads = [Thread(target=attack) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = seen(line)
    assert sum(e["repeats"] + 1 for e in found) == 80
    assert len(found) <= 2


def test_what_a_stranger_chose_is_masked_cut_and_fit_to_be_shown(app: Flask) -> None:
    odd = 'acme\x00\x1b[31m\n{"level": "ERROR"} ana@example.com 123.456.789-09 ' + "x" * 5000
    events.report(Kind.WRONG_WEBHOOK_SECRET, gateway_kind=odd)
    db.session.commit()

    kept = db.session.execute(text("select detail ->> 'gateway_kind' from security_event")).scalar_one()
    assert len(kept) <= events.MOST_TEXT
    assert kept.isprintable()
    assert "ana@example.com" not in kept
    assert "456.789" not in kept


def test_events_are_forgotten_after_ninety_days(app: Flask, owner: Engine) -> None:
    events.report(Kind.FORGED_NOTICE, 1, "old", receipt=1)
    events.report(Kind.FORGED_NOTICE, 1, "new", receipt=2)
    db.session.commit()
    with owner.begin() as connection:
        old = f"update security_event set at = now() - interval '{events.KEEP_DAYS + 1} days'"
        connection.execute(text(old + " where detail ->> 'receipt' = '1'"))

    events.forget_security_events(db.session.connection())

    assert db.session.execute(text("select detail ->> 'receipt' from security_event")).scalars().all() == ["2"]


def test_an_older_version_of_the_program_can_write_events_too(app: Flask) -> None:
    for _ in range(2):
        plain = "insert into security_event (kind, detail, trace_id) values ('forged_notice', '{}', 't')"
        db.session.execute(text(plain))

    assert db.session.execute(text("select count(*) from security_event")).scalar_one() == 2


def test_every_kind_has_its_words() -> None:
    assert set(SECURITY) == set(Kind)


# Logs -------------------------------------------------------------------------------------------------------------

INJECTIONS = [
    'ana\n{"level": "ERROR", "message": "paid"}',
    "ana\r\nERROR  paid",
    "ana\u2028paid\u2029paid\x85paid\x0bpaid\x0cpaid",
    "ana\x1b[2J\x1b[31mred\x07\x9b31m",
    "ana\x00\u202epaid",
]


@pytest.fixture(params=["json", "console"])
def written(request: pytest.FixtureRequest) -> tuple[logging.Logger, StringIO]:
    stream, logger = StringIO(), logging.Logger("test")  # noqa: LOG001 - of its own
    logger.addHandler(log.handler(request.param, stream))
    return logger, stream


@pytest.mark.parametrize("name", INJECTIONS)
def test_a_name_never_begins_a_line_of_its_own_in_the_log(written: tuple[logging.Logger, StringIO], name: str) -> None:
    logger, stream = written

    logger.warning("bought by %s", name, extra={"customer": name, "nested": {"name": [name]}, name: name})

    line = stream.getvalue()
    assert len(line.splitlines()) == 1
    assert all(char.isprintable() for char in line.removesuffix("\n"))


def test_an_error_whose_text_has_lines_is_one_line_of_json() -> None:
    stream, logger = StringIO(), logging.Logger("test")  # noqa: LOG001 - of its own
    logger.addHandler(log.handler("json", stream))
    try:
        raise ValueError('no\n{"level": "INFO"}')
    except ValueError:
        logger.exception("failed")

    assert len(stream.getvalue().splitlines()) == 1
