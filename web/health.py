"""Whether this installation works: for load balancers, monitors and `run`."""

from __future__ import annotations

import shutil
from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import SQLAlchemyError

from bot_manager import VERSION
from bot_manager.app import settings
from bot_manager.database import patience
from bot_manager.jobs.queue import a_worker_breathes, lag_seconds

blueprint = Blueprint("health", __name__)

SLOW_S = 30.0
LEAST_ROOM = 64 * 1024 * 1024  # bytes: what PostgreSQL writes ahead before it tidies up
PATIENCE_S = 2.0  # less than monitors have


@blueprint.get("/health")
def health() -> ResponseReturnValue:
    """200 with `ok` or `degraded`, 503 with `down` when the database does not answer."""
    patience.at_most(PATIENCE_S)
    try:
        facts: dict[str, Any] = {"database": "ok", "worker": _worker(), "queue_lag_s": round(lag_seconds(), 1)}
    except SQLAlchemyError:
        facts = {"database": "down", "worker": "unknown", "queue_lag_s": None}
    facts["disk"] = _disk()
    status = _status(facts)
    return jsonify(status=status, **facts, version=VERSION), 503 if status == "down" else 200


def _worker() -> str:
    return "ok" if a_worker_breathes() else "down"


def _disk() -> str:
    """Of the embedded PostgreSQL's data: reading goes on when nothing can be written any more."""
    data = settings().data_dir
    if not (data / "postgres").exists():
        return "unknown"
    return "full" if shutil.disk_usage(data).free < LEAST_ROOM else "ok"


def _status(facts: dict[str, Any]) -> str:
    if facts["database"] != "ok":
        return "down"
    if facts["disk"] == "full":
        return "degraded"
    return "ok" if facts["worker"] == "ok" and facts["queue_lag_s"] < SLOW_S else "degraded"
