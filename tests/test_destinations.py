"""What every destination owes."""

from __future__ import annotations

import ast
from datetime import timedelta
from pathlib import Path

import pytest

from tracking.destinations import all_destinations, get

ROOT = Path(__file__).parent.parent
KINDS = sorted(all_destinations())
EDGES = [path for path in (ROOT / "tracking").rglob("*.py") if path.stem not in ("clicks", "purchases", "score")]


def test_meta_is_found():
    assert get("meta").label == "Meta (Facebook e Instagram)"


def test_unknown_kind_is_a_key_error():
    with pytest.raises(KeyError):
        get("orkut")


@pytest.mark.parametrize("kind", KINDS)
def test_destination_says_what_the_panel_and_the_core_need(kind: str):
    destination = get(kind)

    assert destination.kind == kind
    assert destination.api_url.startswith("https://")
    assert destination.max_age > timedelta()
    assert destination.batch_size >= 1
    assert any(credential.secret for credential in destination.credentials)


@pytest.mark.parametrize("kind", KINDS)
def test_destination_is_documented(kind: str):
    text = (ROOT / "docs" / "destinations.md").read_text(encoding="utf-8")

    assert f"## {kind}\n" in text
    assert all(f"`{credential.name}`" in text for credential in get(kind).credentials)


@pytest.mark.parametrize("path", EDGES, ids=lambda path: path.stem)
def test_edge_knows_no_tables_and_no_web(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]

    modules += [
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    # What all edges stand on: how companies are spoken to, and how what they say is read.
    ours = ("bot_manager.network.wire", "bot_manager.network.strict")
    core = {module for module in modules if module.startswith("bot_manager") and module != "bot_manager.network"}
    assert all(module.startswith(ours) for module in core)
    assert not {module.partition(".")[0] for module in modules} & {"flask", "sqlalchemy", "models", "web"}
