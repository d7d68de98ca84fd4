from __future__ import annotations

import runpy

import pytest


def conf(monkeypatch: pytest.MonkeyPatch, **env: str) -> dict:
    for name in ("PUBLIC_URL", "PORT", "TRUSTED_PROXIES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return runpy.run_module("web.gunicorn_conf")


def test_laptop_is_reached_by_nobody_else(monkeypatch: pytest.MonkeyPatch):
    assert conf(monkeypatch)["bind"] == "127.0.0.1:8000"


def test_server_with_a_public_address_listens_to_all(monkeypatch: pytest.MonkeyPatch):
    assert conf(monkeypatch, PUBLIC_URL="https://shop.example.com", PORT="9000")["bind"] == "0.0.0.0:9000"


def test_nobody_may_tell_the_scheme_but_trusted_proxies(monkeypatch: pytest.MonkeyPatch):
    assert conf(monkeypatch)["forwarded_allow_ips"] == ""
    assert conf(monkeypatch, TRUSTED_PROXIES="10.0.0.0/8 fd00::1")["forwarded_allow_ips"] == "10.0.0.0/8,fd00::1/128"
