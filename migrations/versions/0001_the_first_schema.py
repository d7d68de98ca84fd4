"""The first schema"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out, not imported: a revision must not change when the models or the library do.
ROW_SECURED = (
    "bot",
    "bot_offer",
    "charge_attempt",
    "click",
    "conversion",
    "customer",
    "delivery",
    "destination",
    "gateway",
    "inbox",
    "link",
    "message",
    "offer",
    "payment",
    "payment_event",
    "seller",
    "webhook_receipt",
)
ENGINE = Path(__file__).parents[1] / "procrastinate_3.10.0.sql"
ENGINE_TYPES = ("procrastinate_job_to_defer_v1", "procrastinate_job_event_type", "procrastinate_job_status")
ENGINE_TABLES = (
    "procrastinate_events",
    "procrastinate_periodic_defers",
    "procrastinate_jobs",
    "procrastinate_workers",
)

WAKE_THE_NEXT = """
create function notify_unlocked() returns trigger language plpgsql as $$ begin
  perform pg_notify('procrastinate_queue_v1#' || new.queue_name,
                    json_build_object('type', 'job_inserted', 'job_id', new.id)::text);
  perform pg_notify('procrastinate_any_queue_v1',
                    json_build_object('type', 'job_inserted', 'job_id', new.id)::text);
  return new;
end $$;
create trigger notify_unlocked after update of status on procrastinate_jobs for each row
  when (old.status = 'doing' and new.status <> 'doing' and old.lock is not null) execute function notify_unlocked();
create index jobs_lock on procrastinate_jobs (lock, priority, id) where status in ('todo', 'doing');
create index jobs_failed on procrastinate_jobs ((args ->> 'seller'), id desc) where status = 'failed';
"""


def secure_rows(table: str) -> None:
    """One seller's rows for whom acts for that seller; reading all of them for the operator and the clock."""
    column = "id" if table == "seller" else "seller_id"
    mine = f"{column} = nullif(current_setting('app.seller', true), '')::bigint"
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"create policy own_rows on {table} using ({mine}) with check ({mine})")
    op.execute(
        f"create policy operator_reads on {table} for select using (current_setting('app.operator', true) = 'on')"
    )


def run_script(script: str) -> None:
    with op.get_bind().connection.cursor() as cursor:
        cursor.execute(script)  # without parameters psycopg sends several statements as they are


def upgrade() -> None:
    op.create_table(
        "provider_key",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("pem", sa.Text(), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("kind", "pem", name=op.f("pk_provider_key")),
    )
    op.create_table(
        "role",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role")),
        sa.UniqueConstraint("name", name=op.f("uq_role_name")),
    )
    op.create_table(
        "security_event",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=True),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_event")),
    )
    op.create_index(op.f("ix_security_event_at"), "security_event", ["at"], unique=False)
    op.create_table(
        "seller",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), server_default="America/Sao_Paulo", nullable=False),
        sa.Column("document", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("support", sa.Text(), nullable=True),
        sa.Column("terms_url", sa.Text(), nullable=True),
        sa.Column("turn", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_seller")),
        sa.UniqueConstraint("email", name=op.f("uq_seller_email")),
    )
    op.create_table(
        "user",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("email", sa.String(length=255), nullable=False),
        sa.Column("password", sa.String(length=255), nullable=True),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("fs_uniquifier", sa.String(length=64), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user")),
        sa.UniqueConstraint("email", name=op.f("uq_user_email")),
        sa.UniqueConstraint("fs_uniquifier", name=op.f("uq_user_fs_uniquifier")),
    )
    op.create_table(
        "bot",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), server_default="telegram", nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("token_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("token_hash", sa.Text(), nullable=True),
        sa.Column("username", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("test", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("funnel", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("pix_minutes", sa.BigInteger(), server_default="30", nullable=False),
        sa.Column("state", sa.Text(), server_default="connecting", nullable=False),
        sa.Column("state_note", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("next_send_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_update_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_bot_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bot")),
        sa.UniqueConstraint("public_id", name=op.f("uq_bot_public_id")),
        sa.UniqueConstraint("seller_id", "key", name=op.f("uq_bot_seller_id_key")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_bot_token_hash")),
    )
    op.create_index(op.f("ix_bot_seller_id"), "bot", ["seller_id"], unique=False)
    op.create_table(
        "destination",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("pixel_id", sa.Text(), nullable=False),
        sa.Column("access_token_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("test_event_code", sa.Text(), nullable=True),
        sa.Column("bot_ids", postgresql.ARRAY(sa.BigInteger()), nullable=True),
        sa.Column("paused_note", sa.Text(), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_destination_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_destination")),
        sa.UniqueConstraint("seller_id", "name", name=op.f("uq_destination_seller_id_name")),
    )
    op.create_index(op.f("ix_destination_seller_id"), "destination", ["seller_id"], unique=False)
    op.create_table(
        "door",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_door_seller_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("kind", "key", name=op.f("pk_door")),
    )
    op.create_index("ix_door_object", "door", ["kind", "object_id"], unique=False)
    op.create_table(
        "gateway",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("priority", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("weight", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("own", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("credentials_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("webhook_secret_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("last_notice_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_charge_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_error_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("priority > 0", name=op.f("ck_gateway_priority")),
        sa.CheckConstraint("weight between 1 and 1000", name=op.f("ck_gateway_weight")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_gateway_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateway")),
        sa.UniqueConstraint("seller_id", "name", name=op.f("uq_gateway_seller_id_name")),
    )
    op.create_index(op.f("ix_gateway_seller_id"), "gateway", ["seller_id"], unique=False)
    op.create_table(
        "membership",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.Text(), server_default="owner", nullable=False),
        sa.CheckConstraint("role in ('owner', 'staff')", name=op.f("ck_membership_role")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_membership_seller_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_membership_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "seller_id", name=op.f("pk_membership")),
    )
    op.create_table(
        "offer",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("price_cents", sa.BigInteger(), nullable=False),
        sa.Column("delivers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("price_cents > 0", name=op.f("ck_offer_price")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_offer_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offer")),
        sa.UniqueConstraint("seller_id", "key", name=op.f("uq_offer_seller_id_key")),
    )
    op.create_index(op.f("ix_offer_seller_id"), "offer", ["seller_id"], unique=False)
    op.create_table(
        "roles_users",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("role_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["role_id"], ["role.id"], name=op.f("fk_roles_users_role_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_roles_users_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "role_id", name=op.f("pk_roles_users")),
    )
    op.create_table(
        "timer",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("args", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("lock", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_timer_seller_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_timer")),
    )
    op.create_index(op.f("ix_timer_due_at"), "timer", ["due_at"], unique=False)
    op.create_table(
        "bot_offer",
        sa.Column("bot_id", sa.BigInteger(), nullable=False),
        sa.Column("offer_id", sa.BigInteger(), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["bot_id"], ["bot.id"], name=op.f("fk_bot_offer_bot_id")),
        sa.ForeignKeyConstraint(["offer_id"], ["offer.id"], name=op.f("fk_bot_offer_offer_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_bot_offer_seller_id")),
        sa.PrimaryKeyConstraint("bot_id", "offer_id", name=op.f("pk_bot_offer")),
    )
    op.create_index(op.f("ix_bot_offer_seller_id"), "bot_offer", ["seller_id"], unique=False)
    op.create_table(
        "customer",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("bot_id", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("chat_id", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("profile_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("tracking_token", sa.Text(), nullable=True),
        sa.Column("state", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("last_position", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("next_send_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("blocked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["bot_id"], ["bot.id"], name=op.f("fk_customer_bot_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_customer_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customer")),
        sa.UniqueConstraint("bot_id", "channel", "chat_id", name=op.f("uq_customer_bot_id_channel_chat_id")),
        sa.UniqueConstraint("external_id", name=op.f("uq_customer_external_id")),
    )
    op.create_index(op.f("ix_customer_seller_id"), "customer", ["seller_id"], unique=False)
    op.create_table(
        "inbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("bot_id", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("chat_id", sa.Text(), nullable=False),
        sa.Column("event_key", sa.Text(), nullable=False),
        sa.Column("update_id", sa.BigInteger(), nullable=True),
        sa.Column("body_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), server_default="new", nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column(
            "received_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["bot_id"], ["bot.id"], name=op.f("fk_inbox_bot_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_inbox_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox")),
        sa.UniqueConstraint("bot_id", "channel", "event_key", name=op.f("uq_inbox_bot_id_channel_event_key")),
    )
    op.create_index(
        "ix_inbox_new",
        "inbox",
        ["bot_id", "channel", "chat_id"],
        unique=False,
        postgresql_where=sa.text("state = 'new'"),
    )
    op.create_index(op.f("ix_inbox_seller_id"), "inbox", ["seller_id"], unique=False)
    op.create_table(
        "link",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("bot_id", sa.BigInteger(), nullable=False),
        sa.Column("mode", sa.Text(), server_default="redirect", nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("mode in ('redirect', 'page')", name=op.f("ck_link_mode")),
        sa.ForeignKeyConstraint(["bot_id"], ["bot.id"], name=op.f("fk_link_bot_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_link_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_link")),
        sa.UniqueConstraint("slug", name=op.f("uq_link_slug")),
    )
    op.create_index(op.f("ix_link_seller_id"), "link", ["seller_id"], unique=False)
    op.create_table(
        "click",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("link_id", sa.BigInteger(), nullable=False),
        sa.Column("tracking_token", sa.Text(), nullable=False),
        sa.Column("fbclid", sa.Text(), nullable=True),
        sa.Column("params", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("visitor_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("not_a_person", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["link_id"], ["link.id"], name=op.f("fk_click_link_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_click_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_click")),
        sa.UniqueConstraint("tracking_token", name=op.f("uq_click_tracking_token")),
    )
    op.create_index(op.f("ix_click_seller_id"), "click", ["seller_id"], unique=False)
    op.create_table(
        "payment",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("payment_id", sa.Text(), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("bot_id", sa.BigInteger(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("offer_id", sa.BigInteger(), nullable=False),
        sa.Column("offer_name", sa.Text(), nullable=False),
        sa.Column("items", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), server_default="BRL", nullable=False),
        sa.Column("test", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("status", sa.Text(), server_default="new", nullable=False),
        sa.Column("webhook_token", sa.Text(), nullable=False),
        sa.Column("tracking_token", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("gateway_id", sa.BigInteger(), nullable=True),
        sa.Column("pix_code", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paid_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("amount_cents > 0", name=op.f("ck_payment_amount")),
        sa.ForeignKeyConstraint(["bot_id"], ["bot.id"], name=op.f("fk_payment_bot_id")),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name=op.f("fk_payment_customer_id")),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateway.id"], name=op.f("fk_payment_gateway_id")),
        sa.ForeignKeyConstraint(["offer_id"], ["offer.id"], name=op.f("fk_payment_offer_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_payment_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment")),
        sa.UniqueConstraint("payment_id", name=op.f("uq_payment_payment_id")),
        sa.UniqueConstraint("webhook_token", name=op.f("uq_payment_webhook_token")),
    )
    op.create_index("ix_payment_sales", "payment", ["seller_id", "created_at"], unique=False)
    op.create_index(
        "uq_payment_live",
        "payment",
        ["customer_id", "offer_id"],
        unique=True,
        postgresql_where=sa.text("status in ('new', 'pending')"),
    )
    op.create_table(
        "charge_attempt",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("gateway_id", sa.BigInteger(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="sending", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("end_to_end_id", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paid_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateway.id"], name=op.f("fk_charge_attempt_gateway_id")),
        sa.ForeignKeyConstraint(["payment_id"], ["payment.id"], name=op.f("fk_charge_attempt_payment_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_charge_attempt_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_charge_attempt")),
        sa.UniqueConstraint("gateway_id", "provider_id", name=op.f("uq_charge_attempt_gateway_id_provider_id")),
    )
    op.create_index(op.f("ix_charge_attempt_payment_id"), "charge_attempt", ["payment_id"], unique=False)
    op.create_index(op.f("ix_charge_attempt_seller_id"), "charge_attempt", ["seller_id"], unique=False)
    op.create_table(
        "conversion",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("destination_id", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("event_name", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("event_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["destination_id"], ["destination.id"], name=op.f("fk_conversion_destination_id")),
        sa.ForeignKeyConstraint(["payment_id"], ["payment.id"], name=op.f("fk_conversion_payment_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_conversion_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversion")),
        sa.UniqueConstraint(
            "destination_id",
            "event_name",
            "payment_id",
            name=op.f("uq_conversion_destination_id_event_name_payment_id"),
        ),
    )
    op.create_index(op.f("ix_conversion_payment_id"), "conversion", ["payment_id"], unique=False)
    op.create_index(op.f("ix_conversion_seller_id"), "conversion", ["seller_id"], unique=False)
    op.create_table(
        "delivery",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("item", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("invite_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["payment_id"], ["payment.id"], name=op.f("fk_delivery_payment_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_delivery_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint("payment_id", "item", name=op.f("uq_delivery_payment_id_item")),
    )
    op.create_index(op.f("ix_delivery_seller_id"), "delivery", ["seller_id"], unique=False)
    op.create_table(
        "payment_event",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["payment_id"], ["payment.id"], name=op.f("fk_payment_event_payment_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_payment_event_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_event")),
    )
    op.create_index("ix_payment_event_payment_id", "payment_event", ["payment_id", "id"], unique=False)
    op.create_index(
        "uq_payment_event_paid", "payment_event", ["payment_id"], unique=True, postgresql_where=sa.text("kind = 'paid'")
    )
    op.create_table(
        "webhook_receipt",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("gateway_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("body_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("authenticity", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="received", nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("payment_id", sa.BigInteger(), nullable=True),
        sa.Column("repeats", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tries", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateway.id"], name=op.f("fk_webhook_receipt_gateway_id")),
        sa.ForeignKeyConstraint(["payment_id"], ["payment.id"], name=op.f("fk_webhook_receipt_payment_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_webhook_receipt_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_receipt")),
        sa.UniqueConstraint("gateway_id", "digest", name=op.f("uq_webhook_receipt_gateway_id_digest")),
    )
    op.create_index(op.f("ix_webhook_receipt_payment_id"), "webhook_receipt", ["payment_id"], unique=False)
    op.create_index(op.f("ix_webhook_receipt_seller_id"), "webhook_receipt", ["seller_id"], unique=False)
    op.create_table(
        "message",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seller_id", sa.BigInteger(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("body_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=True),
        sa.Column("delivery_id", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("claim", sa.Text(), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name=op.f("fk_message_customer_id")),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"], name=op.f("fk_message_delivery_id")),
        sa.ForeignKeyConstraint(["payment_id"], ["payment.id"], name=op.f("fk_message_payment_id")),
        sa.ForeignKeyConstraint(["seller_id"], ["seller.id"], name=op.f("fk_message_seller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message")),
        sa.UniqueConstraint("customer_id", "position", name=op.f("uq_message_customer_id_position")),
    )
    op.create_index(
        "ix_message_open",
        "message",
        ["customer_id", "position"],
        unique=False,
        postgresql_where=sa.text("state in ('queued', 'sending')"),
    )
    op.create_index(op.f("ix_message_seller_id"), "message", ["seller_id"], unique=False)
    for table in ROW_SECURED:
        secure_rows(table)
    run_script(ENGINE.read_text(encoding="utf-8"))
    run_script(WAKE_THE_NEXT)


def downgrade() -> None:
    op.drop_index(op.f("ix_message_seller_id"), table_name="message")
    op.drop_index("ix_message_open", table_name="message", postgresql_where=sa.text("state in ('queued', 'sending')"))
    op.drop_table("message")
    op.drop_index(op.f("ix_webhook_receipt_seller_id"), table_name="webhook_receipt")
    op.drop_index(op.f("ix_webhook_receipt_payment_id"), table_name="webhook_receipt")
    op.drop_table("webhook_receipt")
    op.drop_index("uq_payment_event_paid", table_name="payment_event", postgresql_where=sa.text("kind = 'paid'"))
    op.drop_index("ix_payment_event_payment_id", table_name="payment_event")
    op.drop_table("payment_event")
    op.drop_index(op.f("ix_delivery_seller_id"), table_name="delivery")
    op.drop_table("delivery")
    op.drop_index(op.f("ix_conversion_seller_id"), table_name="conversion")
    op.drop_index(op.f("ix_conversion_payment_id"), table_name="conversion")
    op.drop_table("conversion")
    op.drop_index(op.f("ix_charge_attempt_seller_id"), table_name="charge_attempt")
    op.drop_index(op.f("ix_charge_attempt_payment_id"), table_name="charge_attempt")
    op.drop_table("charge_attempt")
    op.drop_index("uq_payment_live", table_name="payment", postgresql_where=sa.text("status in ('new', 'pending')"))
    op.drop_index("ix_payment_sales", table_name="payment")
    op.drop_table("payment")
    op.drop_index(op.f("ix_click_seller_id"), table_name="click")
    op.drop_table("click")
    op.drop_index(op.f("ix_link_seller_id"), table_name="link")
    op.drop_table("link")
    op.drop_index(op.f("ix_inbox_seller_id"), table_name="inbox")
    op.drop_index("ix_inbox_new", table_name="inbox", postgresql_where=sa.text("state = 'new'"))
    op.drop_table("inbox")
    op.drop_index(op.f("ix_customer_seller_id"), table_name="customer")
    op.drop_table("customer")
    op.drop_index(op.f("ix_bot_offer_seller_id"), table_name="bot_offer")
    op.drop_table("bot_offer")
    op.drop_index(op.f("ix_timer_due_at"), table_name="timer")
    op.drop_table("timer")
    op.drop_table("roles_users")
    op.drop_index(op.f("ix_offer_seller_id"), table_name="offer")
    op.drop_table("offer")
    op.drop_table("membership")
    op.drop_index(op.f("ix_gateway_seller_id"), table_name="gateway")
    op.drop_table("gateway")
    op.drop_index("ix_door_object", table_name="door")
    op.drop_table("door")
    op.drop_index(op.f("ix_destination_seller_id"), table_name="destination")
    op.drop_table("destination")
    op.drop_index(op.f("ix_bot_seller_id"), table_name="bot")
    op.drop_table("bot")
    op.drop_table("user")
    op.drop_table("seller")
    op.drop_index(op.f("ix_security_event_at"), table_name="security_event")
    op.drop_table("security_event")
    op.drop_table("role")
    op.drop_table("provider_key")
    for table in ENGINE_TABLES:
        op.execute(f"drop table {table} cascade")
    op.execute(
        "do $$ declare f record; begin for f in select p.oid::regprocedure as name from pg_proc p"
        " where p.proname like 'procrastinate\\_%' or p.proname = 'notify_unlocked'"
        " loop execute 'drop function ' || f.name; end loop; end $$"
    )
    for kind in ENGINE_TYPES:
        op.execute(f"drop type {kind}")
