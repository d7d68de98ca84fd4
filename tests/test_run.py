"""What `run` does beside tending its processes."""

from __future__ import annotations

from threading import Event

import pytest

from bot_manager.ops import processes
from bot_manager.settings import Settings


def test_an_announcement_that_fails_is_told_and_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = Event()
    monkeypatch.setattr(processes, "_web_answers", lambda port: True)
    monkeypatch.setattr(processes, "_TICK", 0)

    def announce() -> str:
        stop.set()
        raise processes.CannotRun("`first_login` failed")

    processes._serve([], stop, Settings(), announce)
    assert "`first_login` failed" in capsys.readouterr().out
