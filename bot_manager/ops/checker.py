"""The checker: the product's promises counted in SQL. When all is well, nothing is found.

What it looks for: paid sales without exactly one audit entry, one Delivery per thing sold and one event per
destination that wants it; rows that hang on a row of another seller's; rows and jobs that should have come to an end
and did not. It only reads, as the owner of the tables or with `look_across_sellers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ForeignKey, Table, func, select, text
from sqlalchemy.engine import Connection

from bot_manager.payments.notices import TRY_AGAIN_S
from models import ROW_SECURED, UNBOOKED, Base

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken promise: the rule's name, how many rows break it, and the first of them."""

    rule: str
    count: int
    examples: tuple[str, ...]


def check(connection: Connection, deadline: timedelta) -> list[Finding]:
    """The rules that are broken. deadline: how long what is under way may take."""
    late = connection.execute(select(func.now())).scalar_one() - deadline
    bounds = {"late": late, "tries": len(TRY_AGAIN_S)}
    found = []
    for rule, statement in RULES.items():
        count, examples = connection.execute(text(_COUNT.format(statement)), bounds).one()
        if count:
            found.append(Finding(rule, count, tuple(examples)))
    return found


_COUNT = f"select count(*), (array_agg(example order by example))[1:{EXAMPLES}] from ({{}}) as found (example)"  # noqa: S608


def _foreign_rows() -> Iterator[str]:
    """One statement for each foreign key from a seller's row to a seller's row, then one for each kind of door."""
    for table in (Base.metadata.tables[name] for name in ROW_SECURED):
        for key in table.foreign_keys:
            if "seller_id" in key.column.table.columns:
                yield _foreign_rows_by(table, key)
    for kind in ("gateway", "bot", "link"):
        yield f"""
            select 'door to {kind} ' || door.object_id from door join {kind} on {kind}.id = door.object_id
            where door.kind = '{kind}' and {kind}.seller_id <> door.seller_id"""  # noqa: S608 - our own names


def _foreign_rows_by(table: Table, key: ForeignKey) -> str:
    other, column = key.column.table.name, key.parent.name
    itself = " || '/' || ".join(f"mine.{part.name}" for part in table.primary_key)
    return f"""
        select '{table.name} ' || {itself} || ' of {other} ' || theirs.id
        from {table.name} mine join {other} theirs on theirs.id = mine.{column}
        where theirs.seller_id <> mine.seller_id"""  # noqa: S608 - our own names


RULES = {
    # Paid: exactly once in the books, in the chat and in the ads account.
    "paid_without_one_audit": """
        select p.payment_id from payment p left join payment_event e on e.payment_id = p.id and e.kind = 'paid'
        group by p.id
        having p.status = 'paid' and count(e.id) <> 1 or p.status not in ('paid', 'refunded') and count(e.id) > 0""",
    "charge_without_its_entry": """
        select 'attempt ' || a.id from charge_attempt a join payment p on p.id = a.payment_id
        where not p.test and a.paid_at is not null and a.state in ('paid', 'refunded') and a.booked = a.state
        and (select count(*) from ledger_entry l where l.attempt_id = a.id and l.kind = 'sale'
             and l.amount_cents = p.amount_cents and l.gateway_id = a.gateway_id) <> 1""",
    "late_entry": f"""
        select 'attempt ' || id from charge_attempt
        where {UNBOOKED} and coalesce(paid_at, ended_at) < :late""",  # noqa: S608 - our own words
    "entry_without_its_charge": """
        select 'entry ' || l.id from ledger_entry l join charge_attempt a on a.id = l.attempt_id
        join payment p on p.id = a.payment_id
        where a.paid_at is null or p.test or l.payment_id <> a.payment_id or l.gateway_id <> a.gateway_id""",
    "more_back_than_came": """
        select 'attempt ' || attempt_id from ledger_entry where kind in ('sale', 'refund')
        group by attempt_id having sum(amount_cents) < 0""",
    "sold_without_delivery": """
        select p.payment_id || ' item ' || item
        from payment p join payment_event e on e.payment_id = p.id and e.kind = 'paid'
        cross join generate_series(0, jsonb_array_length(p.items) - 1) item
        where p.status = 'paid' and e.at < :late
        and not exists (select from delivery d where d.payment_id = p.id and d.item = item)""",
    "delivery_not_sold": """
        select 'delivery ' || d.id from delivery d join payment p on p.id = d.payment_id
        where d.item not between 0 and jsonb_array_length(p.items) - 1
        or not exists (select from payment_event e where e.payment_id = p.id and e.kind = 'paid')""",
    "purchase_not_reported": """
        select p.payment_id || ' to destination ' || d.id
        from payment p join payment_event e on e.payment_id = p.id and e.kind = 'paid'
        join destination d on d.seller_id = p.seller_id and d.archived_at is null and d.since <= e.at
         and (d.bot_ids is null or p.bot_id = any (d.bot_ids))
        where p.status = 'paid' and e.at < :late
        and not exists (select from conversion c where c.payment_id = p.id and c.destination_id = d.id)""",
    "group_without_access": """
        select 'delivery ' || d.id from delivery d join payment p on p.id = d.payment_id
        where p.items -> d.item::int ->> 'kind' = 'group' and d.state in ('queued', 'delivered') and not p.test
        and not exists (select from access a where a.delivery_id = d.id)""",
    "report_not_sold": """
        select 'conversion ' || c.id from conversion c
        where not exists (select from payment_event e where e.payment_id = c.payment_id and e.kind = 'paid')""",
    "event_id_not_one": """
        select 'payment ' || payment_id from conversion
        group by payment_id, event_name having count(distinct event_id) > 1
        union all
        select event_id from conversion group by event_id having count(distinct payment_id) > 1""",
    # Whose: no row hangs on a stranger's.
    "foreign_seller": " union all ".join(_foreign_rows()),
    "foreign_customer": """
        select 'message ' || m.id from message m join payment p on p.id = m.payment_id
        left join delivery d on d.id = m.delivery_id
        where p.customer_id <> m.customer_id or d.payment_id <> m.payment_id
        union all
        select p.payment_id from payment p join customer c on c.id = p.customer_id where c.bot_id <> p.bot_id""",
    "foreign_account": """
        select 'receipt ' || r.id from webhook_receipt r where r.payment_id is not null and not exists
         (select from charge_attempt a where a.payment_id = r.payment_id and a.gateway_id = r.gateway_id)
        union all
        select p.payment_id from payment p where p.gateway_id is not null and not exists
         (select from charge_attempt a where a.payment_id = p.id and a.gateway_id = p.gateway_id)""",
    # Under way: nothing for longer than it may be. Who blocked the bot, and a bot without a good token, are waited for.
    "late_update": "select 'inbox ' || id from inbox where state = 'new' and received_at < :late",
    "late_receipt": """
        select 'receipt ' || r.id || ' ' || r.state from webhook_receipt r where r.last_at < :late and (
         r.state in ('received', 'confirming') or r.state = 'parked' and r.tries <= :tries) and not exists
         (select from timer t where t.key in ('rematch:' || r.id, 'confirm:' || r.id) and t.due_at >= :late)""",
    "late_payment": """
        select payment_id || ' ' || status from payment
        where status = 'new' and created_at < :late or status = 'pending' and expires_at < :late""",
    "late_lookup": "select 'attempt ' || attempt_id from lookup where created_at < :late",
    "late_charge": "select 'attempt ' || id from charge_attempt where state = 'sending' and started_at < :late",
    "late_delivery": """
        select 'delivery ' || d.id || ' ' || d.state from delivery d join payment p on p.id = d.payment_id
        join customer c on c.id = p.customer_id join bot b on b.id = p.bot_id
        where d.state in ('waiting', 'queued') and d.created_at < :late and p.status = 'paid'
        and c.blocked_at is null and b.state not in ('refused', 'archived')""",
    "late_access": "select 'access ' || id from access where state = 'open' and ends_at < :late and last_error is null",
    "late_message": """
        select 'message ' || m.id || ' ' || m.state from message m
        join customer c on c.id = m.customer_id join bot b on b.id = c.bot_id
        where c.blocked_at is null and b.state not in ('refused', 'archived') and (
         m.state = 'sending' and m.claimed_at < :late or m.state = 'queued' and m.created_at < :late and not exists
         (select from timer t where t.key = 'send:' || c.id and t.due_at >= :late))""",
    "late_conversion": """
        select 'conversion ' || c.id || ' ' || c.state from conversion c
        where c.state in ('waiting', 'sending') and coalesce(c.claimed_at, c.created_at) < :late and not exists
         (select from timer t where t.key = 'conversion:' || c.id and t.due_at >= :late)""",
    "late_timer": "select key from timer where due_at < :late",
    "late_job": """
        select 'job ' || j.id || ' ' || j.task_name || ' ' || j.status from procrastinate_jobs j
        left join procrastinate_workers w on w.id = j.worker_id
        where j.status = 'doing' and (w.id is null or w.last_heartbeat < :late)
        or j.status = 'todo' and :late >
         coalesce(j.scheduled_at, (select max(e.at) from procrastinate_events e where e.job_id = j.id))""",
    "failed_job": "select 'job ' || id || ' ' || task_name from procrastinate_jobs where status = 'failed'",
}
