from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import demo

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_two_sales_go_through_the_products_real_processes() -> None:
    words = [sys.executable, "-m", "tests.demo"]
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "FORMAT": "json"}, capture_output=True, text=True, check=False
    )
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"]) == (0, True), told
    assert {"name", "ms"} == told["stages"][0].keys()
    assert sum(stage["ms"] for stage in told["stages"]) <= told["total_ms"]


def fail(stages: demo.Stages, home: Path) -> None:
    (home / "run.log").write_text("one\nthe last word\n")
    stages.heading("Sale 1")
    with stages.stage("a click"):
        pass
    with stages.stage("the payment is paid"):
        raise AssertionError("it did not happen in time")


def test_a_failed_demo_says_what_it_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "_show", fail)
    monkeypatch.delenv("FORMAT", raising=False)
    assert demo.main() == 1
    said = capsys.readouterr().out
    assert "Waited in vain for: Sale 1: the payment is paid" in said
    assert "it did not happen in time" in said
    assert said.rstrip().endswith("the last word")


def test_a_failed_demo_says_so_to_machines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo, "_show", fail)
    monkeypatch.setenv("FORMAT", "json")
    assert demo.main() == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["waiting_for"]) == (False, "Sale 1: the payment is paid")
    assert [stage["name"] for stage in told["stages"]] == ["Sale 1: a click"]
