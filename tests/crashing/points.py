"""Where a process can be made to die: each point's name, the function it is at, and the moment.

Only the standard library here: every process of the product under test reads it at its start.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Moment(Enum):
    BEFORE = "before the function is called"
    AFTER = "after it returned"
    AFTER_COMMIT = "after the next commit of its thread"


class Point(NamedTuple):
    """where: module:qualified name. writes: only a call (of a function of one connection) that wrote a job."""

    where: str
    moment: Moment
    writes: bool = False


_B, _A, _C = Moment.BEFORE, Moment.AFTER, Moment.AFTER_COMMIT

WEB = {
    "a click is kept, not committed": Point("tracking.clicks:record", _A),
    "an update is kept, not committed": Point("bot_manager.bots.updates:keep_pushed", _A),
    "an update is committed, not answered": Point("bot_manager.bots.updates:keep_pushed", _C),
    "a notice's receipt is written": Point("bot_manager.payments.notices:_keep", _A),
    "a notice has settled its sale, not committed": Point("bot_manager.payments.notices:accept", _A),
    "a notice is committed, not answered": Point("bot_manager.payments.notices:accept", _C),
}
WORKER = {
    "a job is fetched, not begun": Point("bot_manager.jobs.queue:_Manager.fetch_job", _A),
    "a job is done, and the engine does not know": Point("bot_manager.jobs.queue:_Manager.finish_job", _B),
    "an event is taken up": Point("bot_manager.conversations:_react", _B),
    "a step is made, not committed": Point("bot_manager.bots.inbox:done", _A),
    "a step is committed": Point("bot_manager.bots.inbox:done", _C),
    "a payment is claimed": Point("bot_manager.payments.charges:_start", _A),
    "an attempt is written, the gateway not asked": Point("bot_manager.payments.charges:_try", _B),
    "a charge is made, its outcome not written": Point("bot_manager.payments.charges:_keep_charge", _B),
    "a code is shown, not committed": Point("bot_manager.sales:show", _A),
    "a code is shown and committed": Point("bot_manager.payments.charges:_keep_charge", _A),
    "a message is claimed, not sent": Point("bot_manager.messages:_opened", _B),
    "a message is sent, its outcome not written": Point("bot_manager.messages:_sent", _B),
    "the gateway has confirmed, nothing is settled": Point("bot_manager.payments.notices:_settle_answer", _B),
    "a sale is settled, not committed": Point("bot_manager.sales:settle", _A),
    "a sale is settled and committed": Point("bot_manager.sales:settle", _C),
    "deliveries are made, not queued": Point("bot_manager.deliveries:_begin", _C),
    "an invitation is made, not kept": Point("bot_manager.deliveries:_keep_invitation", _B),
    "deliveries are queued, not committed": Point("bot_manager.deliveries:_queue", _A),
    "an event is made and claimed, not committed": Point("tracking.purchases:_claim", _A),
    "an event is claimed, not sent": Point("tracking.purchases:_claim", _C),
    "an event is sent, its outcome not written": Point("tracking.purchases:_taken", _B),
}
# The clock's own: each of these needs something to do first.
CLOCK = {
    "timers are swept, not committed": Point("bot_manager.jobs.queue:sweep_timers", _A, writes=True),
    "a dead worker's jobs are freed, not committed": Point("bot_manager.jobs.queue:free_the_dead", _A, writes=True),
}
POISONED = {
    "a message is to be sent": Point("bot_manager.messages:_next", _B),
    "a notice has come": Point("bot_manager.payments.notices:accept", _B),
    "an event is to be taken up": Point("bot_manager.conversations:_react", _B),
}
COMMANDS = {
    "a bot's updates come to us, its row says nothing": Point("bot_manager.bots.connections:_connected", _B),
    "a shop file is half written": Point("bot_manager.shop.apply:_write_links", _B),
    "a shop file is written and committed": Point("bot_manager.shop.apply:apply", _C),
}
STARTS = {
    "a database is made, not in its place": Point("bot_manager.ops.postgres_data:Data._run", _A),
    "the database runs, nothing is migrated": Point("bot_manager.ops.processes:_wait_for", _A),
    "a migration is made, not committed": Point("bot_manager.ops.schema:_grant", _B),
    "a program is started": Point("bot_manager.ops.children:Program._spawn", _A),
    "the first login is made, not told": Point("bot_manager.ops.processes:_said", _A),
}
POINTS = POISONED | WEB | WORKER | CLOCK | COMMANDS | STARTS
