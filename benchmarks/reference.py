"""The same work done by the least code that does it right: one table of payments, an outbox, a sender thread.

A notice is verified, deduplicated and settled in one transaction that also writes what is to be sent; the sender takes
rows with SKIP LOCKED and deletes them once both companies have accepted, so a crash repeats a batch and loses nothing.
No tenants, adapters, funnels, rates or encryption: what this machine gives, and what the product's features cost.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import urllib3
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from flask import Flask, Response, request
from sqlalchemy import Engine, create_engine, text

from bot_manager.ops.schema import engine_url
from web.front import create

BATCH = 16
TABLES = """
    create table ref_payment (token text primary key, cents bigint, chat text, paid_at timestamptz);
    create table ref_receipt (digest text primary key, body bytea, at timestamptz default now());
    create table ref_outbox (id bigint generated always as identity primary key, url text, body jsonb);
    grant select, insert, update, delete on ref_payment, ref_receipt, ref_outbox to bot_manager
"""
OPEN = text("insert into ref_payment (token, cents, chat) values (:token, :cents, :chat)")
_KEY = text("select pem from provider_key where kind = 'woovi'")
_KEEP = text("insert into ref_receipt (digest, body) values (:digest, :body) on conflict do nothing")
_PAY = text(
    "update ref_payment set paid_at = now() where token = :token and cents = :cents and paid_at is null returning chat"
)
_QUEUE = text("insert into ref_outbox (url, body) values (:url, cast(:body as jsonb))")
_TAKE = text("select id, url, body from ref_outbox order by id limit :batch for update skip locked")
_DELETE = text("delete from ref_outbox where id = any(:ids)")

_http = urllib3.PoolManager(maxsize=BATCH)
_wake = threading.Event()

app = Flask(__name__)


@app.post("/notice")
def notice() -> Response:
    body = request.get_data()
    _key().verify(base64.b64decode(request.headers["x-webhook-signature"]), body, PKCS1v15(), SHA256())
    _settle(body, json.loads(body)["charge"])
    _sender()
    _wake.set()
    return Response(status=200)


@cache
def _engine() -> Engine:
    return create_engine(engine_url(os.environ["DATABASE_URL"]), pool_size=9, max_overflow=0)


@cache
def _key() -> RSAPublicKey:
    with _engine().connect() as connection:
        key = load_pem_public_key(connection.scalar(_KEY).encode())
    assert isinstance(key, RSAPublicKey)
    return key


def _settle(body: bytes, charge: dict[str, Any]) -> None:
    with _engine().begin() as connection:
        kept = connection.execute(_KEEP, {"digest": hashlib.sha256(body).hexdigest(), "body": body})
        if not kept.rowcount:
            return
        paid = connection.execute(_PAY, {"token": charge["correlationID"], "cents": charge["value"]}).one_or_none()
        if paid:
            connection.execute(_QUEUE, [_message(paid.chat), _purchase(charge)])


def _message(chat: str) -> dict[str, str]:
    url = f"{os.environ['TELEGRAM_API_URL']}/bot100001:AAE/sendMessage"
    return {
        "url": url,
        "body": json.dumps({"chat_id": chat, "text": "Pagamento confirmado: https://example.com/curso"}),
    }


def _purchase(charge: dict[str, Any]) -> dict[str, str]:
    url = f"{os.environ['META_GRAPH_URL']}/v26.0/5550001/events"
    custom = {"value": charge["value"] / 100, "currency": "BRL"}
    event = {"event_name": "Purchase", "event_id": charge["correlationID"], "custom_data": custom}
    return {"url": url, "body": json.dumps({"data": [event]})}


@cache
def _sender() -> threading.Thread:
    """Started by a worker's first notice: threads do not survive the fork."""
    thread = threading.Thread(target=_send_for_ever, daemon=True)
    thread.start()
    return thread


def _send_for_ever() -> None:
    with ThreadPoolExecutor(BATCH) as pool:
        while True:
            if not _send_batch(pool):
                _wake.wait(0.5)
                _wake.clear()


def _send_batch(pool: ThreadPoolExecutor) -> int:
    with _engine().begin() as connection:
        rows = connection.execute(_TAKE, {"batch": BATCH}).all()
        accepted = [row.id for row, good in zip(rows, pool.map(_post, rows), strict=True) if good]
        connection.execute(_DELETE, {"ids": accepted})
    return len(accepted)


def _post(row: Any) -> bool:
    return _http.request("POST", row.url, json=row.body).status == 200


asgi = create(app)
