"""`/health`: what monitors and `run` believe."""

from __future__ import annotations

from dataclasses import replace

import pytest
import requests
from flask.testing import FlaskClient

from bot_manager.settings import Settings
from tests.line import Line
from web import create_app, health


def test_without_a_worker_it_is_degraded(client: FlaskClient) -> None:
    answer = client.get("/health")

    assert answer.status_code == 200
    assert answer.json == {
        "status": "degraded",
        "database": "ok",
        "worker": "down",
        "queue_lag_s": 0.0,
        "disk": "unknown",
        "version": "0.1.0",
    }


def test_with_a_worker_it_is_ok(line: Line) -> None:
    with line.working():
        line.world.telegram.wait_for(lambda: requests.get(f"{line.url}/health", timeout=5).json()["status"] == "ok")


def test_without_a_database_it_is_down(settings: Settings) -> None:
    nowhere = replace(settings, database_url="postgresql://bot_manager@/x?host=/nowhere")

    answer = create_app(nowhere).test_client().get("/health")

    assert answer.status_code == 503
    assert answer.json["status"] == "down"


def test_without_a_database_a_notice_is_a_503(settings: Settings) -> None:
    nowhere = replace(settings, database_url="postgresql://bot_manager@/x?host=/nowhere")

    answer = create_app(nowhere).test_client().post("/webhook/pushinpay/secret", data=b"{}")

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_a_full_disk_is_degraded_although_reading_goes_on(
    settings: Settings, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.data_dir / "postgres").mkdir(parents=True)
    assert client.get("/health").json["disk"] == "ok"
    monkeypatch.setattr(health, "LEAST_ROOM", 2**62)
    assert (client.get("/health").json["disk"], client.get("/health").json["status"]) == ("full", "degraded")
