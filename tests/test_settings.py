"""Settings: read once, from variables or files, and a bad value is refused by its name."""

from __future__ import annotations

import traceback
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from bot_manager.settings import BadSetting, Settings


def test_nothing_set_is_a_laptop() -> None:
    settings = Settings.from_env({})

    assert settings.address == "http://127.0.0.1:8000"
    assert settings.database_url is None
    assert settings.public_url is None


def test_a_setting_may_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret of more than thirty-two characters\n")

    settings = Settings.from_env({"SECRET_KEY_FILE": str(secret)})

    assert settings.secret_key == "a secret of more than thirty-two characters"
    assert "thirty-two" not in repr(settings)


def test_the_addresses_of_gateways_are_the_operators_to_set() -> None:
    settings = Settings.from_env({"PUSHINPAY_API_URL": "http://127.0.0.1:9/api/", "TELEGRAM_API_URL": "http://t"})

    assert dict(settings.gateway_urls) == {"pushinpay": "http://127.0.0.1:9/api"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "70000"),
        ("PORT", "٨٠"),
        ("PUBLIC_URL", "shop.example.com"),
        ("PUBLIC_URL", "https://shop.example.com/?a=1"),
        ("DATABASE_URL", "mysql://x"),
        ("SECRET_KEY", "short"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("WOOVI_API_URL", "ftp://x"),
        ("SECRET_KEY_FILE", "/nowhere/at/all"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=name):
        Settings.from_env({name: value})


@pytest.mark.parametrize("password", ["geheim wort", "geheim%zz", "geheim@x:y/z"])
def test_an_address_that_postgresql_does_not_read_is_refused_without_its_password(password: str) -> None:
    with pytest.raises(BadSetting, match="DATABASE_OWNER_URL") as refused:
        Settings.from_env({"DATABASE_OWNER_URL": f"postgresql://shop:{password}@db.example.com:5432x/shop"})

    assert "geheim" not in "".join(traceback.format_exception(refused.value))


def test_keys_never_lie_inside_the_data(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="KEYS_DIR"):
        Settings.from_env({"DATA_DIR": str(tmp_path), "KEYS_DIR": str(tmp_path / "keys")})


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1
