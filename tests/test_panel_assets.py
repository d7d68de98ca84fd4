"""What browsers get besides pages: nothing inline, nothing that was not vendored, nothing too heavy."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from web.panel import assets

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = sorted((ROOT / "web" / "templates").rglob("*.html"))
VENDORED = (ROOT / "web" / "static" / "vendor", ROOT / "tests" / "vendor")

_FORBIDDEN = {
    "a style attribute": re.compile(r"\sstyle\s*="),
    "an event handler attribute": re.compile(r"\son[a-z]+\s*="),
    "hx-on, which needs eval": re.compile(r"hx-on"),
    "a js: value, which needs eval": re.compile(r"[\"']js:|javascript:"),
    "an inline script": re.compile(r"<script(?![^>]*\bsrc=)"),
    "an inline style sheet": re.compile(r"<style"),
    "a file of another host": re.compile(r"(?:src|href)=\"(?:https?:)?//(?!t\.me/)"),
    "text taken as safe": re.compile(r"\|\s*safe"),
}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_nothing_that_the_content_policy_forbids(template: Path) -> None:
    text = template.read_text(encoding="utf-8")

    assert [what for what, pattern in _FORBIDDEN.items() if pattern.search(text)] == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_posted_form_carries_the_csrf_field(template: Path) -> None:
    forms = re.findall(r"<form[^>]*method=\"post\".*?</form>", template.read_text(encoding="utf-8"), re.DOTALL)

    assert all("csrf()" in form for form in forms)


def test_vendored_files_are_those_of_the_lock() -> None:
    lock = json.loads((ROOT / "tools" / "vendor.lock.json").read_text())
    expected = {path: digest for package in lock.values() for path, digest in package["files"].items()}
    found = {
        str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest()
        for directory in VENDORED
        for path in directory.rglob("*")
    }

    assert expected == found


def test_every_icon_that_is_named_is_in_the_sprite_and_none_else() -> None:
    sprite = (assets.STATIC / "vendor" / "icons.svg").read_text(encoding="utf-8")
    sources = TEMPLATES + sorted((ROOT / "web" / "panel").glob("*.py"))
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    there = set(re.findall(r'<symbol id="([^"]+)"', sprite))

    assert set(re.findall(r"icon\(\"([a-z0-9-]+)\"", text)) <= there
    assert [name for name in sorted(there) if f'"{name}"' not in text] == []


def test_an_unknown_icon_or_file_is_found_out_when_the_page_is_made() -> None:
    with pytest.raises(LookupError, match="unicorn"):
        assets.icon("unicorn")
    with pytest.raises(LookupError, match=r"nothing\.css"):
        assets.asset("nothing.css")


def test_our_own_scripts_are_small() -> None:
    assert sum(path.stat().st_size for path in (assets.STATIC / "js").iterdir()) < 15_000
