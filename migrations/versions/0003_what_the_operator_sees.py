"""What the operator sees: security events that are counted, dead letters with their error, who tried them again"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MINE = "seller_id = nullif(current_setting('app.seller', true), '')::bigint"


def upgrade() -> None:
    op.add_column("security_event", sa.Column("origin", sa.Text(), server_default="", nullable=False))
    op.add_column("security_event", sa.Column("tally", sa.Text(), nullable=True))
    op.add_column("security_event", sa.Column("repeats", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column(
        "security_event",
        sa.Column("last_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.create_unique_constraint(op.f("uq_security_event_tally"), "security_event", ["tally"])
    op.create_table(
        "job_error",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_error")),
    )
    op.create_table(
        "retry_batch",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("wanted", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retry_batch")),
    )
    op.create_table(
        "retry",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=True),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("row_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["retry_batch.id"], name=op.f("fk_retry_batch_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_retry_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retry")),
    )
    op.create_index(op.f("ix_retry_seller_id"), "retry", ["seller_id"], unique=False)
    op.create_index("ix_retry_batch_id", "retry", ["batch_id", "id"], unique=False)
    op.create_index(
        "uq_retry_once",
        "retry",
        ["what", "row_id"],
        unique=True,
        postgresql_where=sa.text("state = 'waiting' or what = 'job' and state <> 'stopped'"),
    )
    op.create_index("ix_inbox_dead", "inbox", ["id"], unique=False, postgresql_where=sa.text("state = 'dead'"))
    op.create_index(
        "ix_webhook_receipt_dead",
        "webhook_receipt",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state in ('unreadable', 'mismatch', 'parked', 'forged')"),
    )
    op.execute("alter table retry enable row level security")
    op.execute(f"create policy own_rows on retry using ({MINE}) with check ({MINE})")
    op.execute("create policy operator_reads on retry for select using (current_setting('app.operator', true) = 'on')")


def downgrade() -> None:
    op.drop_index("ix_webhook_receipt_dead", table_name="webhook_receipt")
    op.drop_index("ix_inbox_dead", table_name="inbox")
    op.drop_table("retry")
    op.drop_table("retry_batch")
    op.drop_table("job_error")
    op.drop_constraint(op.f("uq_security_event_tally"), "security_event")
    for column in ("last_at", "repeats", "tally", "origin"):
        op.drop_column("security_event", column)
