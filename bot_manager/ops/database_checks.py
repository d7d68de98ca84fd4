"""What the doctor asks the database: who we are there, what keeps sellers apart, whether work is done."""

from __future__ import annotations

from datetime import UTC, datetime

from alembic.script import ScriptDirectory
from sqlalchemy import text

from bot_manager.jobs.queue import a_worker_breathes, lag_seconds
from bot_manager.ops.check import Check, bad, doubtful, good
from bot_manager.ops.schema import configuration, version
from models import ROW_SECURED, db

CONNECTIONS = 45  # two web processes of 8, a worker of 21, and some for backups and people
LONGEST_LAG_S = 60.0
SKEW_S = 1.0
MOST_SKEW_S = 5.0

_DATABASE = "banco de dados"
_TABLES = "tabelas"

_ROLE = text(
    "select rolsuper, rolbypassrls, (select coalesce(bool_or(pg_has_role(c.relowner, 'member')), false)"
    " from pg_class c where c.relname = any(:tables) and c.relnamespace = 'public'::regnamespace) as owns"
    " from pg_roles where rolname = current_user"
)
_SECURED = text(
    "select c.relname from pg_class c where c.relnamespace = 'public'::regnamespace and c.relrowsecurity"
    " and exists (select 1 from pg_policy p where p.polrelid = c.oid)"
)
_CONNECTIONS = text(
    "select current_setting('max_connections')::int as most, count(*) as used from pg_stat_activity"
    " where backend_type = 'client backend'"
)


def checks() -> list[Check]:
    """Raises sqlalchemy's DBAPIError when the database does not answer."""
    found = [_clock(), _role(), _tables()]
    if usable(found):
        found += [_rows_are_secured(), _worker(), _lag(), _connections()]
    return found


def usable(found: list[Check]) -> bool:
    return any(check.name == _TABLES and check.ok for check in found)


def unreachable(error: Exception) -> Check:
    why = str(getattr(error, "orig", None) or error).splitlines()[0][:200]
    return bad(_DATABASE, f"não responde ({why})", "Confira DATABASE_URL, e se o PostgreSQL está no ar.")


def _clock() -> Check:
    """The database answers, and tells the same time as this machine."""
    before = datetime.now(UTC)
    theirs: datetime = db.session.execute(text("select clock_timestamp()")).scalar_one()
    ours = before + (datetime.now(UTC) - before) / 2
    seconds = abs((theirs - ours).total_seconds())
    if seconds <= SKEW_S:
        return good(_DATABASE)
    problem, fix = f"o relógio difere do desta máquina em {seconds:.0f} s", "Ligue a sincronização (NTP) nas duas."
    return bad(_DATABASE, problem, fix) if seconds > MOST_SKEW_S else doubtful(_DATABASE, problem, fix)


def _role() -> Check:
    name = "papel no banco"
    role = db.session.execute(_ROLE, {"tables": list(ROW_SECURED)}).one()
    told = ("é superusuário", "ignora a segurança por linha", "é dono das tabelas")
    if faults := [fault for fault, found in zip(told, role, strict=True) if found]:
        fix = "Ponha em DATABASE_URL um papel comum; o dono só em DATABASE_OWNER_URL."
        return bad(name, f"o de DATABASE_URL {' e '.join(faults)}: um vendedor poderia ver dados de outro", fix)
    return good(name)


def _tables() -> Check:
    stored, newest = version(db.session.connection()), _newest_version()
    if stored == newest:
        return good(_TABLES)
    fix = "Rode `python -m bot_manager migrate` com DATABASE_OWNER_URL."
    return bad(_TABLES, f"estão na versão {stored or 'nenhuma'}, e o programa é da {newest}", fix)


def _newest_version() -> str | None:
    return ScriptDirectory.from_config(configuration(db.session.connection())).get_current_head()


def _rows_are_secured() -> Check:
    name = "segurança por linha"
    if open_tables := sorted(set(ROW_SECURED) - set(db.session.scalars(_SECURED))):
        fix = "Alguém a desligou. Ligue com: alter table … enable row level security."
        return bad(name, f"desligada em {', '.join(open_tables)}", fix)
    return good(name)


def _worker() -> Check:
    name = "worker"
    if a_worker_breathes():
        return good(name)
    return bad(name, "nenhum está trabalhando: nada é cobrado nem entregue", "Rode `python -m bot_manager worker`.")


def _lag() -> Check:
    name, seconds = "fila", lag_seconds()
    if seconds <= LONGEST_LAG_S:
        return good(name)
    return doubtful(name, f"o trabalho mais antigo espera há {seconds:.0f} s", "Rode mais um worker.")


def _connections() -> Check:
    name = "conexões do banco"
    row = db.session.execute(_CONNECTIONS).one()
    if row.most < CONNECTIONS:
        fix = f"Ponha max_connections em pelo menos {CONNECTIONS} no PostgreSQL."
        return bad(name, f"o PostgreSQL só aceita {row.most}", fix)
    if row.used > row.most * 0.9:
        return doubtful(name, f"{row.used} de {row.most} estão em uso", "Aumente max_connections no PostgreSQL.")
    return good(name)
