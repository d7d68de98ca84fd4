"""What `run` does beside tending its processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from threading import Event

import pytest
from flask import Flask
from sqlalchemy import select

from bot_manager.commands import first_login
from bot_manager.ops import processes
from bot_manager.security import logins
from bot_manager.settings import Settings
from models import User, db
from web.panel import passwords


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


@pytest.fixture
def say(
    app: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs `first_login` and answers its exit code and what it said."""
    monkeypatch.setattr(first_login, "opened", nullcontext)

    def run(*words: str) -> tuple[int, str]:
        code = first_login.main(settings, list(words))
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def test_a_first_login_that_was_lost_is_made_again_until_somebody_has_logged_in(
    say: Callable[..., tuple[int, str]],
) -> None:
    code, first = say()
    assert (code, first.startswith("First login: operador@example.com · ")) == (0, True)
    code, hint = say()
    assert (code, "first_login --again" in hint, "·" in hint) == (0, True, False)

    code, second = say("--again")
    assert (code, second.startswith("First login: "), second != first) == (0, True, True)
    user = db.session.scalars(select(User)).one()
    fits = [passwords.fits(user, told.split(" ")[4]) for told in (first, second)]
    assert fits == [False, True]
    logins.begin(user.id, "Chrome", "127.0.0.1")
    db.session.commit()

    assert say() == (0, "")
    code, refused = say("--again")
    assert (code, "has logged in already" in refused) == (1, True)


def test_words_that_it_does_not_know_are_refused(say: Callable[..., tuple[int, str]]) -> None:
    assert say("--force")[0] == 2
