"""The small app that `tests/test_front.py` serves with the real gunicorn."""

from __future__ import annotations

import os
import time
from pathlib import Path

from flask import Flask, Response, jsonify, request

from web import front, gunicorn_worker

front.BODY_SECONDS = float(os.environ.get("TEST_BODY_SECONDS", front.BODY_SECONDS))
front.MAX_WAITING = int(os.environ.get("TEST_MAX_WAITING", front.MAX_WAITING))
gunicorn_worker.HEADER_SECONDS = float(os.environ.get("TEST_HEADER_SECONDS", gunicorn_worker.HEADER_SECONDS))
gunicorn_worker.READ_SECONDS = float(os.environ.get("TEST_READ_SECONDS", gunicorn_worker.READ_SECONDS))
_folder = Path(os.environ["TEST_FOLDER"])

flask = Flask(__name__)


@flask.route("/echo/<path:rest>", methods=["GET", "POST", "PUT", "OPTIONS"])
def echo(rest: str) -> Response:
    return jsonify(
        rest=rest,
        method=request.method,
        query=request.query_string.decode(),
        cookies=request.cookies,
        body=request.get_data(as_text=True),
        length=request.content_length,
        kind=request.content_type,
        scheme=request.scheme,
        ip=request.remote_addr,
        names=sorted(name for name in request.environ if name.startswith("HTTP_")),
        shared=request.headers.get("X-Shared"),
    )


@flask.post("/store")
def store() -> str:
    """Answers once the line is on the disk."""
    file = os.open(_folder / "stored", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, request.get_data() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)
    return "stored"


@flask.get("/hold/<n>")
def hold(n: str) -> str:
    """Answers once the test has made the file `release`."""
    (_folder / f"holding-{n}").touch()
    give_up = time.monotonic() + 15
    while not (_folder / "release").exists() and time.monotonic() < give_up:
        time.sleep(0.01)
    return "held"


@flask.get("/cookies")
def cookies() -> Response:
    response = Response("two")
    response.set_cookie("one", "1")
    response.set_cookie("two", "2")
    return response


@flask.get("/status/<int:status>")
def answer(status: int) -> Response:
    return Response("a body that some answers must not have", status)


@flask.get("/stream")
def stream() -> Response:
    return Response(part for part in ("a", "b", "c"))


@flask.get("/large")
def large() -> bytes:
    return b"x" * 32 * 1024 * 1024


def _wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/boom":
        raise RuntimeError("the secret is 42")
    return flask(environ, start_response)


app = front.create(_wsgi)
