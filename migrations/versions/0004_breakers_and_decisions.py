"""Breakers and decisions"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ROW_SECURED = ("decision", "turn")
BREAKER = ("failures", "failed_at", "openings", "open_until", "probe_until")


def secure_rows(table: str) -> None:
    """One seller's rows for whom acts for that seller; reading all of them for the operator and the clock."""
    mine = "seller_id = nullif(current_setting('app.seller', true), '')::bigint"
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"create policy own_rows on {table} using ({mine}) with check ({mine})")
    op.execute(
        f"create policy operator_reads on {table} for select using (current_setting('app.operator', true) = 'on')"
    )


def upgrade() -> None:
    op.add_column("gateway", sa.Column("failures", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("gateway", sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("gateway", sa.Column("openings", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("gateway", sa.Column("open_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("gateway", sa.Column("probe_until", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "turn",
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("among", sa.Text(), nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_turn_seller_id")),
        sa.PrimaryKeyConstraint("seller_id", "among", name=op.f("pk_turn")),
    )
    op.create_table(
        "decision",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("candidates", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("asks", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["payment_id"], ["payment.id"], name=op.f("fk_decision_payment_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_decision_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision")),
    )
    op.create_index(op.f("ix_decision_payment_id"), "decision", ["payment_id"], unique=False)
    op.create_index(op.f("ix_decision_seller_id"), "decision", ["seller_id"], unique=False)
    for table in ROW_SECURED:
        secure_rows(table)


def downgrade() -> None:
    op.drop_table("decision")
    op.drop_table("turn")
    for column in reversed(BREAKER):
        op.drop_column("gateway", column)
