"""All that is in a database, as hashes: what must not have changed is compared before and after."""

from __future__ import annotations

from sqlalchemy import Engine, text

from models import Base

# Written by looking: who was there, how often something was tried, what a stranger did.
OF_LOOKING = {"login", "allowance", "security_event"}


def hashes(owner: Engine, seller_id: int | None = None, but: set[str] | None = None) -> dict[str, str]:
    """Each table's rows in one hash; only one seller's, when it is given."""
    tables = [table for table in Base.metadata.sorted_tables if table.name not in OF_LOOKING | (but or set())]
    if seller_id is not None:
        tables = [table for table in tables if "seller_id" in table.c or table.name == "seller"]
    each = " union all ".join(_hash(table.name, seller_id) for table in tables)
    with owner.connect() as connection:
        return {row.name: row.rows for row in connection.execute(text(each), {"seller": seller_id})}


def _hash(table: str, seller_id: int | None) -> str:
    column = "id" if table == "seller" else "seller_id"
    mine = "" if seller_id is None else f" where {column} = :seller"
    rows = "md5(coalesce(string_agg(t::text, E'\\n' order by t::text), ''))"
    return f"select '{table}' as name, {rows} as rows from \"{table}\" t{mine}"
