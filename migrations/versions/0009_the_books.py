"""The books: what came in, what the provider kept, what went back"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# What was sold before there were books; no tariff was known then.
SOLD_BEFORE = """
insert into ledger_entry (seller_id, gateway_id, payment_id, attempt_id, kind, amount_cents, key, at)
select a.seller_id, a.gateway_id, a.payment_id, a.id, 'sale', p.amount_cents, 'sale', coalesce(a.paid_at, a.started_at)
from charge_attempt a join payment p on p.id = a.payment_id
where not p.test and (a.state = 'paid' or a.state = 'refunded' and a.paid_at is not null)"""
GONE_BACK_BEFORE = """
insert into ledger_entry (seller_id, gateway_id, payment_id, attempt_id, kind, amount_cents, key, at)
select a.seller_id, a.gateway_id, a.payment_id, a.id, 'refund', -p.amount_cents, 'refund ' || p.amount_cents,
  coalesce((select min(e.at) from payment_event e where e.payment_id = p.id
            and e.kind in ('refunded', 'charge_refunded')), a.paid_at)
from charge_attempt a join payment p on p.id = a.payment_id
where not p.test and a.state = 'refunded' and a.paid_at is not null"""


def upgrade() -> None:
    op.add_column("gateway", sa.Column("fee_fixed_cents", sa.BigInteger(), nullable=True))
    op.add_column("gateway", sa.Column("fee_basis_points", sa.BigInteger(), nullable=True))
    op.create_table(
        "ledger_entry",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("gateway_id", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "written_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["attempt_id"], ["charge_attempt.id"], name=op.f("fk_ledger_entry_attempt_id")),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateway.id"], name=op.f("fk_ledger_entry_gateway_id")),
        sa.ForeignKeyConstraint(["payment_id"], ["payment.id"], name=op.f("fk_ledger_entry_payment_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_ledger_entry_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_entry")),
        sa.UniqueConstraint("attempt_id", "key", name=op.f("uq_ledger_entry_attempt_id_key")),
    )
    op.create_index(op.f("ix_ledger_entry_payment_id"), "ledger_entry", ["payment_id"], unique=False)
    op.create_index("ix_ledger_entry_seller_id_at", "ledger_entry", ["seller_id", "at"], unique=False)
    mine = "seller_id = nullif(current_setting('app.seller', true), '')::bigint"
    op.execute("alter table ledger_entry enable row level security")
    op.execute(f"create policy own_rows on ledger_entry using ({mine}) with check ({mine})")
    op.execute(
        "create policy operator_reads on ledger_entry for select using (current_setting('app.operator', true) = 'on')"
    )
    op.add_column("charge_attempt", sa.Column("booked", sa.Text(), nullable=True))
    op.execute(SOLD_BEFORE)
    op.execute(GONE_BACK_BEFORE)
    op.execute("update charge_attempt set booked = state where state in ('paid', 'refunded')")
    op.create_index(
        "ix_charge_attempt_unbooked",
        "charge_attempt",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state in ('paid', 'refunded') and booked is distinct from state"),
    )
    op.execute(
        "create function ledger_stands() returns trigger language plpgsql as"
        " $$ begin raise exception 'a ledger entry is never changed: write another one'; end $$"
    )
    op.execute(
        "create trigger ledger_stands before update or delete on ledger_entry"
        " for each row execute function ledger_stands()"
    )


def downgrade() -> None:
    op.drop_table("ledger_entry")
    op.execute("drop function ledger_stands()")
    op.drop_index("ix_charge_attempt_unbooked", table_name="charge_attempt")
    op.drop_column("charge_attempt", "booked")
    op.drop_column("gateway", "fee_basis_points")
    op.drop_column("gateway", "fee_fixed_cents")
