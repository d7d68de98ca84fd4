"""What exists is documented, and what is documented exists."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

from flask import Flask

import gateways
from bot_manager.__main__ import COMMANDS
from bot_manager.jobs.names import Name
from bot_manager.security.events import Kind
from bot_manager.settings import Settings
from bot_manager.shop import schema
from tracking import destinations

ROOT = Path(__file__).parents[1]
KIND_URL = re.compile(r"(?!TELEGRAM)[A-Z0-9]+_API_URL")


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def settings() -> set[str]:
    """Their names in the environment."""
    return {field.name.upper() for field in fields(Settings)} - {"GATEWAY_URLS"} | {"<KIND>_API_URL"}


def named(names: list[str]) -> set[str]:
    """The names, any gateway's address told as <KIND>_API_URL."""
    return {"<KIND>_API_URL" if KIND_URL.fullmatch(name) else name for name in names}


def test_every_setting_has_its_section_and_no_other_is_there() -> None:
    sections = re.findall(r"^## `?([A-Z_<>]+)`?$", text("docs/settings.md"), re.MULTILINE)

    assert sorted(sections) == sorted(settings())


def test_every_setting_is_in_the_example_and_no_other_is_there() -> None:
    assert named(re.findall(r"^#?([A-Z_]+)=", text(".env.example"), re.MULTILINE)) == settings()


def test_example_of_settings_can_be_read() -> None:
    lines = re.findall(r"^#([A-Z_]+)=(.+)$", text(".env.example"), re.MULTILINE)

    assert Settings.from_env(dict(lines)).public_url == "https://shop.example.com"


def test_defaults_told_are_the_defaults() -> None:
    told = dict(
        re.findall(
            r"^## ([A-Z_]+)\n(?:(?!^#).)*?Default: `([^`]+)`", text("docs/settings.md"), re.MULTILINE | re.DOTALL
        )
    )

    assert told
    assert {name: str(getattr(Settings(), name.lower())) for name in told} == told


def test_every_route_has_its_section_and_no_other_is_there(app: Flask) -> None:
    told = re.findall(r"^## ((?:GET|POST) \S+)$", text("docs/http.md"), re.MULTILINE)
    routes = {
        f"{method} {re.sub(r'<(?:[a-z]+:)?', '<', rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) & {"GET", "POST"}
    }

    assert sorted(told) == sorted(routes)


def test_every_kind_of_security_event_has_its_section_and_no_other_is_there() -> None:
    assert re.findall(r"^### (\S+)$", text("docs/security.md"), re.MULTILINE) == list(Kind)


def test_every_job_has_its_section_and_no_other_is_there() -> None:
    assert sections("docs/jobs.md") == sorted(Name)


def test_every_gateway_has_its_section() -> None:
    assert set(gateways.all_gateways()) <= set(re.findall(r"`(\w+)`", " ".join(headings("docs/gateways.md"))))


def test_every_destination_has_its_section() -> None:
    assert set(destinations.all_destinations()) <= set(" ".join(headings("docs/destinations.md")).lower().split())


def test_every_command_is_in_the_help() -> None:
    files = {path.stem for path in (ROOT / "bot_manager" / "commands").glob("*.py")} - {"__init__", "core"}

    assert files == {name.replace("-", "_") for name in COMMANDS}


def test_the_schema_of_the_shop_file_is_up_to_date() -> None:
    assert json.loads(text("docs/shop.schema.json")) == schema.schema()


def test_both_readmes_begin_with_what_a_seller_gets_and_the_two_commands() -> None:
    for path in ("README.md", "README.pt-BR.md"):
        beginning = text(path)[:2500]
        assert "PIX" in beginning
        assert re.search(r"```sh\ngit clone .*\nmake run\n```", beginning)


def sections(path: str) -> list[str]:
    return sorted(re.findall(r"^## (\S+)$", text(path), re.MULTILINE))


def headings(path: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", text(path), re.MULTILINE)
