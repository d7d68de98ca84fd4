"""The floor of a request: the same front and the same server, and next to nothing behind it.

/nothing answers at once; /insert makes one durable row first.
"""

from __future__ import annotations

import os

from flask import Flask, Response, request
from sqlalchemy import create_engine, text

from bot_manager.ops.schema import engine_url
from web.front import create

_INSERT = text("insert into floor (body) values (:body)")
_engine = create_engine(engine_url(os.environ["DATABASE_URL"]), pool_size=8, max_overflow=0)

app = Flask(__name__)


@app.route("/nothing", methods=["GET", "POST"])
def nothing() -> Response:
    return Response(status=200)


@app.post("/insert")
def insert() -> Response:
    with _engine.begin() as connection:
        connection.execute(_INSERT, {"body": request.get_data()})
    return Response(status=200)


asgi = create(app)
