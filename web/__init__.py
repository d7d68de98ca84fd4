"""The HTTP door: Flask, and no decisions."""

from __future__ import annotations

from flask import Flask

from bot_manager.app import create_core
from bot_manager.settings import Settings
from web import health, intake, panel, public, redirect, requests, webhooks


def create_app(settings: Settings) -> Flask:
    """Every route on top of the core."""
    app = create_core(settings)
    app.before_request(requests.begin_trace)
    app.before_request(requests.refuse_odd_bodies)
    app.teardown_request(requests.forget_patience)
    for room in (health, intake, public, redirect, webhooks):
        app.register_blueprint(room.blueprint)
    panel.register(app)
    return app
