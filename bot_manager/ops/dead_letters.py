"""Dead letters: what came to a stop and waits for the operator. Found across sellers, tried again for one.

Five kinds of rows: jobs of the engine that failed for good, updates that could not be handled, notices that led
nowhere, deliveries that a channel refused, purchases that an ad platform did. To try again is a conditional change of
our own row and a new job, in one transaction; the engine's dead row stays as it is. Who asked for it is a `Retry` row,
which also makes a job's dead row count once. A set is tried slice by slice, so that it can be stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from bot_manager import deliveries, log
from bot_manager.app import act_for, look_across_sellers
from bot_manager.bots import inbox, updates
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, enqueue, set_timer
from bot_manager.payments import notices
from models import UNBOOKED, Retry, RetryBatch, RetryState, db
from tracking import purchases

CAP = 200  # letters in one batch
HOLD_S = 10.0  # before a batch begins
SLICE = 10
PAUSE_S = 2.0  # between two slices

_LETTERS = """
    select 'job' as what, j.id, (j.args ->> 'seller')::bigint as seller_id, j.task_name as kind,
     coalesce(x.error, '') as error, (select max(e.at) from procrastinate_events e where e.job_id = j.id) as at,
     j.args ->> 'trace' as trace_id
    from procrastinate_jobs j left join job_error x on x.job_id = j.id where j.status = 'failed'
    union all
    select 'update', i.id, i.seller_id,
     case when i.event_key like 'unreadable:%' then 'update_unreadable' else 'update_failed' end,
     coalesce(i.last_error, ''), i.received_at, i.trace_id
    from inbox i where i.state = 'dead'
    union all
    select 'receipt', w.id, w.seller_id, w.state, coalesce(w.note, ''), w.last_at, w.trace_id
    from webhook_receipt w where w.state in ('unreadable', 'mismatch', 'parked', 'forged')
     and (w.state <> 'parked' or not exists (select from timer t where t.key = 'rematch:' || w.id))
    union all
    select 'delivery', d.id, d.seller_id, 'delivery_failed', coalesce(d.note, ''), d.created_at, p.trace_id
    from delivery d join payment p on p.id = d.payment_id where d.state = 'failed' and p.status = 'paid'
    union all
    select 'purchase', c.id, c.seller_id, 'purchase_refused', coalesce(c.last_error, ''),
     coalesce(c.ended_at, c.created_at), c.trace_id
    from conversion c where c.state = 'dead'
"""
_WANTED = f"""
    from ({_LETTERS}) l join seller s on s.id = l.seller_id
    where (cast(:what as text) is null or l.what = :what) and (cast(:kind as text) is null or l.kind = :kind)
     and (cast(:seller as bigint) is null or l.seller_id = :seller)
     and (cast(:since as timestamptz) is null or l.at >= :since)
     and (cast(:until as timestamptz) is null or l.at < :until)
     and not exists (select from retry r where r.what = l.what and r.row_id = l.id
      and (r.state = 'waiting' or r.what = 'job' and r.state <> 'stopped'))
"""
_NEWEST = text(
    f"select l.*, s.name as seller_name {_WANTED}"
    " and (cast(:at as timestamptz) is null or (l.at, l.what, l.id) < (:at, :before_what, :before_id))"
    " order by l.at desc, l.what desc, l.id desc limit :limit"
)
_OLDEST = text(f"select l.*, s.name as seller_name {_WANTED} order by l.at, l.what, l.id limit :limit")
_COUNTS = text(f"select l.what, l.kind, count(*) as letters {_WANTED} group by l.what, l.kind order by 1, 2")
_ONE = text(f"select l.*, s.name as seller_name {_WANTED} and l.id = :id")

_JOB = text("select task_name, args, lock from procrastinate_jobs where id = :id and status = 'failed' for update")

# What must hold of a job's own row for the job to have any sense; where the row stands in its way, it is set back.
# Each runs under row-level security, so that a job's arguments reach no other seller's row.
CLAIMS: Mapping[Name, str | None] = {
    Name.CONVERSE: "select 1 from inbox where bot_id = :bot and channel = :channel and chat_id = :chat"
    " and state = 'new' limit 1",
    Name.SEND: "select 1 from message where customer_id = :customer and state in ('queued', 'sending') limit 1",
    Name.ANSWER_TAP: None,  # a tap waits for some seconds only
    Name.CHARGE: "update payment set claimed_at = null where id = :payment and status = 'new' returning 1",
    Name.LOOK: "select 1 from payment where id = :payment and status not in ('paid', 'refunded')",
    Name.RECONCILE: "select 1 from lookup where gateway_id = :gateway limit 1",
    Name.BOOK: f"select 1 from charge_attempt where id = :attempt and {UNBOOKED}",  # noqa: S608 - our own words
    Name.CONFIRM: "update webhook_receipt set last_at = now() where id = :receipt and state = 'confirming' returning 1",
    Name.REMATCH: "update webhook_receipt set last_at = now() where id = :receipt and state = 'parked' returning 1",
    Name.DELIVER: "select 1 from payment where id = :payment and status = 'paid'",
    Name.ADMIT: None,  # who still wants to enter asks again
    Name.END_ACCESS: "select 1 from access where id = :access and state = 'open'",
    Name.TAKE_ACCESS_BACK: "select 1 from access where payment_id = :payment and state = 'open' limit 1",
    Name.REPORT_PURCHASE: "select 1 from payment where id = :payment and status = 'paid'",
    Name.SEND_CONVERSION: "update conversion set state = 'waiting' where id = :conversion and (state = 'waiting'"
    " or state = 'sending' and claimed_at < now() - interval '30 seconds') returning 1",
    Name.CONNECT_BOT: "select 1 from bot where id = :bot and archived_at is null",
    Name.DISCONNECT_BOT: "select 1 from bot where id = :bot"
    " and (archived_at is not null or old_tokens_sealed is not null)",
    Name.FETCH_PUBLIC_KEYS: "select 1 from gateway where id = :gateway and archived_at is null",
    Name.RETRY_BATCH: "select 1 from retry where batch_id = :batch and state = 'waiting' limit 1",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters.

    what: job, update, receipt, delivery or purchase. kind: a job's name, a notice's state, update_unreadable,
    update_failed, delivery_failed or purchase_refused.
    """

    what: str | None = None
    kind: str | None = None
    seller: int | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """What came to a stop: whose, since when, and the last thing that was said about it."""

    what: str
    id: int
    seller_id: int
    kind: str
    error: str
    at: datetime
    trace_id: str
    seller_name: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is; by state: how many of its letters are waiting, done, moot, stuck or stopped."""

    batch: RetryBatch
    by_state: Mapping[str, int]

    @property
    def waiting(self) -> int:
        return self.by_state.get(RetryState.WAITING, 0)


# Found, across sellers --------------------------------------------------------------------------------------------


def newest(wanted: Wanted, limit: int, before: Letter | None = None) -> list[Letter]:
    """before: the last one of the page before."""
    cursor = {"at": before and before.at, "before_what": before and before.what, "before_id": before and before.id}
    return _found(_NEWEST, wanted, limit=limit, **cursor)


def oldest(wanted: Wanted, limit: int) -> list[Letter]:
    return _found(_OLDEST, wanted, limit=limit)


def one(what: str, row_id: int) -> Letter | None:
    return next(iter(_found(_ONE, Wanted(what), id=row_id)), None)


def counts(wanted: Wanted) -> dict[tuple[str, str], int]:
    """How many there are by what and kind."""
    look_across_sellers()
    rows = db.session.execute(_COUNTS, asdict(wanted))
    return {(row.what, row.kind): row.letters for row in rows}


def _found(statement: Any, wanted: Wanted, **more: Any) -> list[Letter]:
    look_across_sellers()
    return [Letter(*row) for row in db.session.execute(statement, {**asdict(wanted), **more})]


# Tried again, for one seller --------------------------------------------------------------------------------------


def try_again(letter: Letter, asked_by: str) -> RetryState | None:
    """Tries one again, for its seller; None when somebody has already. The caller commits."""
    act_for(letter.seller_id)
    retry_id = _ask(letter, asked_by, None)
    return None if retry_id is None else _carry_out(retry_id, letter.what, letter.id)


def _ask(letter: Letter, asked_by: str, batch_id: int | None) -> int | None:
    values = {"seller_id": letter.seller_id, "what": letter.what, "row_id": letter.id}
    asked = insert(Retry).values(**values, asked_by=asked_by, batch_id=batch_id)
    return db.session.scalar(asked.on_conflict_do_nothing().returning(Retry.id))


def _carry_out(retry_id: int, what: str, row_id: int) -> RetryState:
    state = _AGAIN[what](row_id)
    ended = update(Retry).where(Retry.id == retry_id).values(state=state, ended_at=func.now())
    db.session.execute(ended)
    return state


def _job_again(job_id: int) -> RetryState:
    row = db.session.execute(_JOB, {"id": job_id}).one_or_none()
    claim = CLAIMS.get(row.task_name) if row else None
    if row and row.task_name not in CLAIMS:
        return RetryState.STOPPED  # another version's: it stays in the list
    if row is None or claim is None or db.session.execute(text(claim), row.args).first() is None:
        return RetryState.MOOT
    args = {name: value for name, value in row.args.items() if name not in ("seller", "trace")}
    enqueue(Job(Name(row.task_name), int(row.args["seller"]), row.args["trace"], args, row.lock))
    return RetryState.DONE


def _update_again(row_id: int) -> RetryState:
    dead = inbox.dead_entry(row_id)
    if dead is None:
        return RetryState.MOOT
    if dead.raw is None:
        inbox.revive(dead)
    elif not updates.keep_readable(dead.chat.seller_id, dead.chat.bot_id, dead.raw):
        return RetryState.STUCK
    else:
        inbox.bury(dead)
    return RetryState.DONE


def _receipt_again(row_id: int) -> RetryState:
    return RetryState.DONE if notices.try_again(row_id) else RetryState.MOOT


def _delivery_again(row_id: int) -> RetryState:
    return RetryState.DONE if deliveries.try_again(row_id) else RetryState.MOOT


def _purchase_again(row_id: int) -> RetryState:
    return RetryState.DONE if purchases.try_again(row_id) else RetryState.MOOT


_AGAIN: Mapping[str, Callable[[int], RetryState]] = {
    "job": _job_again,
    "update": _update_again,
    "receipt": _receipt_again,
    "delivery": _delivery_again,
    "purchase": _purchase_again,
}


# Tried again, many ------------------------------------------------------------------------------------------------


def begin_batch(wanted: Wanted, asked_by: str) -> int:
    """Has the oldest of them tried again, up to the cap, after a hold; answers the batch's id. The caller commits."""
    letters = oldest(wanted, CAP)
    shown = {name: value and str(value) for name, value in asdict(wanted).items()}
    batch = RetryBatch(asked_by=asked_by, wanted=shown, size=0)
    db.session.add(batch)
    db.session.flush()
    taken = 0
    for seller_id in sorted({letter.seller_id for letter in letters}):
        act_for(seller_id)
        taken += sum(
            _ask(letter, asked_by, batch.id) is not None for letter in letters if letter.seller_id == seller_id
        )
        _later(seller_id, batch.id, HOLD_S)
    batch.size = taken
    return batch.id


def retry_batch(batch: int) -> None:
    """One slice of a batch, for the seller that is acted for; a letter a transaction."""
    for _ in range(SLICE):
        left = _next(batch)
        db.session.commit()
        if not left:
            return
    _later(_seller(), batch, PAUSE_S)
    db.session.commit()


def _next(batch_id: int) -> bool:
    """Tries the next one that still waits: who stops the batch waits for the one under way, and for no other."""
    waiting = select(Retry.id, Retry.what, Retry.row_id).where(_waiting_in(batch_id)).order_by(Retry.id).limit(1)
    row = db.session.execute(waiting.with_for_update(skip_locked=True)).one_or_none()
    if row is None:
        return False
    _carry_out(row.id, row.what, row.row_id)
    return True


def stop(batch_id: int) -> None:
    """What is not tried yet stays where it was. The caller commits."""
    stopped = update(RetryBatch).where(RetryBatch.id == batch_id, RetryBatch.stopped_at.is_(None))
    db.session.execute(stopped.values(stopped_at=func.now()))
    look_across_sellers()
    for seller_id in db.session.scalars(select(Retry.seller_id).where(_waiting_in(batch_id)).distinct()).all():
        act_for(seller_id)
        left = update(Retry).where(_waiting_in(batch_id))
        db.session.execute(left.values(state=RetryState.STOPPED, ended_at=func.now()))


def progress(batch_id: int) -> Progress | None:
    look_across_sellers()
    batch = db.session.get(RetryBatch, batch_id)
    counted = select(Retry.state, func.count()).where(Retry.batch_id == batch_id).group_by(Retry.state)
    return Progress(batch, dict(db.session.execute(counted).all())) if batch else None


def _waiting_in(batch_id: int) -> Any:
    return (Retry.batch_id == batch_id) & (Retry.state == RetryState.WAITING)


def _seller() -> int:
    return log.seller_id.get() or 0


def _later(seller_id: int, batch_id: int, seconds: float) -> None:
    trace = log.trace_id.get() or log.new_trace_id()
    job = Job(Name.RETRY_BATCH, seller_id, trace, {"batch": batch_id}, lock=f"retry:{batch_id}:{seller_id}")
    set_timer(f"retry:{batch_id}:{seller_id}", job, seconds)
