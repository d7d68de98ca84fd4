"""Access to groups: who may be in one, until when"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Bots hear of people who ask to enter a group only once they were connected again.
CONNECT_AGAIN = """
insert into timer (key, kind, seller_id, args, lock, trace_id, due_at)
select 'connect:' || id, 'connect_bot', seller_id, jsonb_build_object('bot', id), null, md5('access' || id), now()
from bot where archived_at is null and token_sealed is not null
on conflict (key) do nothing"""

# What was sold before ends as it was told: so many days from its delivery.
SOLD_BEFORE = """
with granted as (
 insert into access (seller_id, delivery_id, payment_id, customer_id, group_id, ends_at)
 select d.seller_id, d.id, p.id, p.customer_id, (sold ->> 'chat_id')::bigint,
  coalesce(d.delivered_at, d.created_at) + make_interval(days => (sold ->> 'days')::int)
 from delivery d join payment p on p.id = d.payment_id, lateral (select p.items -> d.item::int as sold) item
 where sold ->> 'kind' = 'group' and not p.test and d.state in ('queued', 'delivered') returning *)
insert into timer (key, kind, seller_id, args, lock, trace_id, due_at)
select 'access:' || id, 'end_access', seller_id, jsonb_build_object('access', id), null, md5('end' || id), ends_at
from granted where ends_at is not null"""
MINE = "seller_id = nullif(current_setting('app.seller', true), '')::bigint"


def upgrade() -> None:
    op.create_table(
        "access",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("group_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("entered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name=op.f("fk_access_customer_id")),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"], name=op.f("fk_access_delivery_id")),
        sa.ForeignKeyConstraint(["payment_id"], ["payment.id"], name=op.f("fk_access_payment_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_access_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access")),
        sa.UniqueConstraint("delivery_id", name=op.f("uq_access_delivery_id")),
    )
    op.create_index(op.f("ix_access_seller_id"), "access", ["seller_id"])
    op.create_index(op.f("ix_access_payment_id"), "access", ["payment_id"])
    op.create_index(op.f("ix_access_customer_id_group_id"), "access", ["customer_id", "group_id"])
    op.execute("alter table access enable row level security")
    op.execute(f"create policy own_rows on access using ({MINE}) with check ({MINE})")
    op.execute("create policy operator_reads on access for select using (current_setting('app.operator', true) = 'on')")
    op.execute(CONNECT_AGAIN)
    op.execute(SOLD_BEFORE)


def downgrade() -> None:
    op.drop_table("access")
