"""Whether a notice is settled as fast among millions of payments as among thousands.

`PAYMENTS=2000000 python -m benchmarks size`; a tenth of that unless told otherwise. The rows are those that settling
reads and writes beside: payments, their charges, audits and notices, all paid, over all shops.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from sqlalchemy import text

from benchmarks import load
from benchmarks.proc import metered
from benchmarks.report import Goal, Report
from benchmarks.shops import Market
from benchmarks.stage import Server, Stage, opened

FEW = 10_000
MANY = int(os.environ.get("PAYMENTS", "200000"))
BATCH = 50_000
NOTICES = 600
TABLES = ("payment", "charge_attempt", "payment_event", "webhook_receipt")

_SHOPS = (
    "jsonb_to_recordset(cast(:shops as jsonb))"
    " as s(place int, seller bigint, bot bigint, offer bigint, buyer bigint, account bigint)"
)
_PAYMENTS = text(
    "insert into payment (payment_id, seller_id, bot_id, customer_id, offer_id, offer_name, items, amount_cents,"
    " status, webhook_token, tracking_token, trace_id, gateway_id, pix_code, expires_at, paid_at, created_at)"
    " select 'BOT' || s.bot || '_' || md5(n::text), s.seller, s.bot, s.buyer, s.offer, 'Curso',"
    """  '[{"kind": "link", "url": "https://example.com/curso"}]', 4990, 'paid',"""
    "  md5('token' || n) || md5(n::text), md5('token' || n) || md5(n::text), md5('trace' || n), s.account,"
    "  repeat(md5(n::text), 5), made + interval '30 minutes', made + interval '2 minutes', made"
    f" from generate_series(cast(:first as bigint), :last) n join {_SHOPS} on s.place = n % :many,"
    "  lateral (select now() - make_interval(secs => (:last - n) * 5) as made) at"
)
_CHARGES = text(
    "insert into charge_attempt (seller_id, payment_id, gateway_id, provider_id, state, started_at, ended_at, paid_at)"
    " select seller_id, id, gateway_id, md5(payment_id), 'paid', created_at, created_at, paid_at"
    " from payment where id > :after"
)
_AUDITS = text(
    "insert into payment_event (seller_id, payment_id, kind, at) select seller_id, id, kind, created_at"
    " from payment, unnest(array['opened', 'code_sent', 'paid', 'delivered']) kind where id > :after"
)
_NOTICES = text(
    "insert into webhook_receipt (seller_id, gateway_id, digest, body_sealed, headers, authenticity, state, payment_id,"
    " trace_id, received_at) select seller_id, gateway_id, md5(payment_id) || md5(webhook_token),"
    "  decode(repeat(md5(payment_id), 40), 'hex'), '{}', 'signed', 'settled', id, trace_id, paid_at"
    " from payment where id > :after"
)


def run() -> Report:
    with opened() as stage:
        market = Market(stage)
        with stage.web() as web:
            load.closed(web.port, market.woovi_notices(NOTICES), 16)
            rows = [_row(stage, market, web, size) for size in (FEW, MANY)]
    few, many = rows
    goals = [
        Goal(f"{what} among {MANY:,}, by that among {FEW:,}", many[what] / few[what], 1.2, "times")
        for what in ("CPU-ms", "p50 ms")
    ]
    return Report("Settling among few payments and among many (times at one connection)", rows, goals=goals)


def _row(stage: Stage, market: Market, web: Server, size: int) -> dict[str, Any]:
    _grow(stage, market, size)
    alone = load.closed(web.port, market.woovi_notices(NOTICES), 1)
    notices = market.woovi_notices(NOTICES)
    with metered(web=web.pid, postgres=stage.postgres) as used:
        crowd = load.closed(web.port, notices, 16)
    if alone.failed or crowd.failed:
        raise RuntimeError(f"{alone.failed + crowd.failed} notices were not taken in")
    each = {f"{name} ms": spent / NOTICES for name, spent in used.items()}
    times = {"p50 ms": alone.percentile(50), "p99 ms": alone.percentile(99), "notices/s at 16": crowd.rate}
    megabytes = stage.ask("select pg_database_size(current_database()) / 1048576")
    return {"payments": f"{size:,}", "MB": megabytes, **times, "CPU-ms": sum(each.values()), **each}


def _grow(stage: Stage, market: Market, size: int) -> None:
    """Sales of long ago, until there are so many payments."""
    while (count := stage.ask("select count(*) from payment")) < size:
        _add(stage, market, count, min(size, count + BATCH))
        print(f"  {stage.ask('select count(*) from payment'):,} payments", file=sys.stderr, flush=True)
    with stage.owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"vacuum (analyze) {', '.join(TABLES)}"))
        connection.execute(text("checkpoint"))


def _add(stage: Stage, market: Market, first: int, last: int) -> None:
    after = stage.ask("select max(id) from payment")
    with stage.owner.begin() as connection:
        connection.execute(text("set local session_replication_role = replica"))  # foreign keys hold by construction
        span = {"first": first + 1, "last": last, "many": len(market.shops)}
        connection.execute(_PAYMENTS, {"shops": json.dumps(_shops(stage, market)), **span})
        for statement in (_CHARGES, _AUDITS, _NOTICES):
            connection.execute(statement, {"after": after})


def _shops(stage: Stage, market: Market) -> list[dict[str, int]]:
    buyer = "select min(id) from customer where bot_id = :bot"
    return [
        {
            "place": place,
            "seller": shop.seller_id,
            "bot": shop.bot_id,
            "offer": shop.offer_id,
            "buyer": stage.ask(buyer, bot=shop.bot_id),
            "account": shop.gateways["woovi"],
        }
        for place, shop in enumerate(market.shops)
    ]
