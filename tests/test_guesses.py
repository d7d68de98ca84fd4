"""Guessing is slow, and hurts nobody but who guesses."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from argon2 import low_level
from flask import Flask
from sqlalchemy import select, text
from werkzeug.test import TestResponse

from bot_manager.security import limits
from bot_manager.security.limits import Limit, TooOften
from bot_manager.settings import Settings
from models import Allowance, SecurityEvent, User, db
from tests.conftest import dispose
from tests.panel_world import PASSWORD, Cast, World, words
from web import create_app
from web.panel import passwords

HERE, THERE = "198.51.100.7", "203.0.113.9"


def guess(
    panel: World, email: str, address: str = HERE, password: str = "not this one", **headers: str
) -> TestResponse:
    browser = panel.client()
    browser.client.environ_base.update(REMOTE_ADDR=address, **headers)
    return browser.post("/login", {"email": email, "password": password})


def somewhere(number: int) -> str:
    return f"10.{number // 250}.{number % 250}.1"


def events(panel: World) -> list[SecurityEvent]:
    with panel.app.app_context():
        found = select(SecurityEvent).where(SecurityEvent.kind == "guessed_too_often").order_by(SecurityEvent.id)
        return list(db.session.scalars(found))


def test_ten_wrong_passwords_then_a_pause_told_kindly(panel: World, cast: Cast) -> None:
    codes = [guess(panel, cast.ana).status_code for _ in range(10)]
    answer = guess(panel, cast.ana)

    assert codes == [200] * 10
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert "Muitas tentativas seguidas" in words(answer)


def test_in_the_pause_even_the_right_password_waits_and_after_it_works(panel: World, cast: Cast) -> None:
    for _ in range(10):
        guess(panel, cast.ana)
    wait = int(guess(panel, cast.ana, password=PASSWORD).headers["Retry-After"])

    with panel.later(timedelta(seconds=wait)):
        assert guess(panel, cast.ana, password=PASSWORD).status_code == 302


def test_a_thousand_tries_at_once_are_ten(panel: World, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in the database, whoever counts: the processes share it."""
    tried = []
    monkeypatch.setattr("flask_security.forms.LoginForm.validate", lambda *_a, **_k: tried.append(1) or False)
    with ThreadPoolExecutor(4) as threads:
        codes = [f.result().status_code for f in [threads.submit(guess, panel, cast.ana) for _ in range(60)]]

    assert len(tried) <= 10
    assert codes.count(429) >= 50


def test_a_stranger_elsewhere_locks_nobody_out(panel: World, cast: Cast) -> None:
    for _ in range(12):
        guess(panel, cast.ana, THERE)

    assert guess(panel, cast.ana, HERE, PASSWORD).status_code == 302


def test_many_accounts_from_one_address_are_ten_too(panel: World, cast: Cast) -> None:
    codes = [guess(panel, f"nobody{n}@example.com").status_code for n in range(11)]

    assert codes == [200] * 10 + [429]


def test_many_addresses_of_one_site_are_one(panel: World, cast: Cast) -> None:
    codes = [guess(panel, cast.ana, f"2001:db8:5:1::{n:x}").status_code for n in range(11)]

    assert codes[-1] == 429


def test_many_addresses_against_one_account_meet_its_own_ceiling(
    panel: World, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_security.forms.LoginForm.validate", lambda *_a, **_k: False)
    codes = [guess(panel, cast.ana, somewhere(n)).status_code for n in range(101)]

    assert codes == [200] * 100 + [429]


def test_who_was_there_before_gets_in_through_any_flood(
    panel: World, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From their own network, though strangers emptied the account's and the address's allowance."""
    assert guess(panel, cast.ana, HERE, PASSWORD).status_code == 302
    with monkeypatch.context() as wrong:
        wrong.setattr("flask_security.forms.LoginForm.validate", lambda *_a, **_k: False)
        for number in range(101):
            guess(panel, cast.ana, somewhere(number))
        for number in range(11):
            guess(panel, f"nobody{number}@example.com", HERE)

    assert guess(panel, cast.ana, THERE, PASSWORD).status_code == 429
    assert guess(panel, cast.ana, HERE, PASSWORD).status_code == 302


def test_right_passwords_are_not_counted(panel: World, cast: Cast) -> None:
    codes = [guess(panel, cast.ana, password=PASSWORD).status_code for _ in range(15)]

    assert codes == [302] * 15


def test_an_unknown_account_sounds_and_counts_like_a_known_one(panel: World, cast: Cast) -> None:
    known = [guess(panel, cast.ana) for _ in range(12)]
    unknown = [guess(panel, "nobody@example.com", THERE) for _ in range(12)]

    assert [one.status_code for one in known] == [one.status_code for one in unknown]
    assert [words(one) for one in known[:10]] == [words(one) for one in unknown[:10]]


@pytest.mark.parametrize("whose", ["known", "shouted", "unknown", "unknown, shouted", "invited", "disabled"])
def test_a_wrong_password_costs_the_same_work_whoever_it_is_tried_at(
    panel: World, cast: Cast, work: list[str], whose: str
) -> None:
    """One hash with the parameters of real ones: whether the account is there can't be read from a clock."""
    email = "nobody@example.com" if whose.startswith("unknown") else cast.ana
    with panel.app.app_context():
        user = db.session.scalars(select(User).filter_by(email=cast.ana)).one()
        user.password, user.active = None if whose == "invited" else user.password, whose != "disabled"
        db.session.commit()
    work.clear()

    answer = guess(panel, email.upper() if whose.endswith("shouted") else email)

    assert answer.status_code == 200
    assert work == ["m=19456,t=2,p=1"]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every Argon2 computation of this process, as its parameters, made or compared."""
    done: list[str] = []
    made, compared = low_level.hash_secret, low_level.verify_secret

    def make(
        secret: bytes, salt: bytes, time_cost: int, memory_cost: int, parallelism: int, *rest: Any, **more: Any
    ) -> bytes:
        done.append(f"m={memory_cost},t={time_cost},p={parallelism}")
        return made(secret, salt, time_cost, memory_cost, parallelism, *rest, **more)

    def compare(hashed: bytes, *rest: Any) -> bool:
        done.append(hashed.decode().split("$")[3])
        return compared(hashed, *rest)

    monkeypatch.setattr(low_level, "hash_secret", make)
    monkeypatch.setattr(low_level, "verify_secret", compare)
    return done


def test_a_forwarded_address_is_believed_from_our_own_proxies_alone(panel: World, cast: Cast) -> None:
    codes = [guess(panel, cast.ana, HTTP_X_FORWARDED_FOR=somewhere(n)).status_code for n in range(11)]
    assert codes[-1] == 429

    ours = panel.app.extensions["settings"]
    panel.app.extensions["settings"] = replace(ours, trusted_proxies=(ip_network("198.51.100.0/24"),))
    try:
        assert guess(panel, cast.ana, HTTP_X_FORWARDED_FOR=f"1.1.1.1, {THERE}").status_code == 200
    finally:
        panel.app.extensions["settings"] = ours


def test_a_flood_leaves_a_security_event_that_names_nobody(panel: World, cast: Cast) -> None:
    for _ in range(13):
        guess(panel, cast.ana, "192.0.2.44")

    told = [event for event in events(panel) if event.origin == "192.0.2.44"]
    assert sum(event.repeats + 1 for event in told) == 3
    for event in told:
        assert len(event.trace_id) == 32
        assert event.detail == {"limit": "account and address", "network": "192.0.2.0/24"}


def test_nobodys_name_lies_open_among_the_allowances(panel: World, cast: Cast) -> None:
    guess(panel, cast.ana)

    with panel.app.app_context():
        keys = db.session.scalars(select(Allowance.key)).all()
    assert len(keys) == 3
    assert all(len(key) == 64 and "@" not in key for key in keys)


@pytest.mark.parametrize("email", ["\0", "a\0@example.com", "x" * 5000, "ana@", "ａna@example.com", ""])
def test_no_name_is_too_odd_to_be_refused(panel: World, cast: Cast, email: str) -> None:
    assert guess(panel, email).status_code in (200, 400)


def test_made_up_invitations_are_slowed_and_real_ones_never(panel: World, cast: Cast) -> None:
    stranger = panel.client()
    codes = [stranger.get(f"/convite/made-up-{n}").status_code for n in range(11)]

    assert codes == [410] * 10 + [429]


# Hashing ------------------------------------------------------------------------------------------------------------


def test_few_hash_at_a_time_and_the_rest_are_told_to_come_back(panel: World, cast: Cast) -> None:
    """While three are in line, five of a process's eight threads are free for notices."""
    inside, leave = threading.Semaphore(0), threading.Event()

    def hash_slowly() -> None:
        with passwords.in_turn():
            inside.release()
            leave.wait(10)

    threads = [threading.Thread(target=hash_slowly) for _ in range(passwords.IN_LINE)]
    for thread in threads:
        thread.start()
    assert inside.acquire(timeout=10)
    deadline = time.monotonic() + 10
    while passwords._line._value and time.monotonic() < deadline:
        time.sleep(0.001)
    answer = guess(panel, cast.ana, password=PASSWORD)
    leave.set()
    for thread in threads:
        thread.join()

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
    assert guess(panel, cast.ana, password=PASSWORD).status_code == 302


def test_a_hash_is_made_by_argon2_within_its_cost(panel: World, cast: Cast) -> None:
    with panel.app.app_context():
        user = db.session.scalars(select(User).filter_by(email=cast.ana)).one()

    assert user.password.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


# The bucket ---------------------------------------------------------------------------------------------------------

LIMIT = Limit("test", 3, 10)


def taken(app: Flask, times: int) -> int:
    """How many of so many tries there were."""
    done = 0
    for _ in range(times):
        try:
            limits.take(LIMIT, "ana")
            done += 1
        except TooOften:
            pass
    return done


def test_a_bucket_fills_up_with_time_and_never_over(app: Flask) -> None:
    start = app.extensions["clock"]()
    app.extensions["clock"] = lambda: start
    assert taken(app, 5) == 3

    for seconds, more in ((9, 0), (20, 2), (21, 0), (30, 1), (10_000, 3)):
        app.extensions["clock"] = lambda seconds=seconds: start + timedelta(seconds=seconds)
        assert taken(app, 5) == more


def test_a_refusal_says_how_long_to_wait(app: Flask) -> None:
    start = app.extensions["clock"]()
    app.extensions["clock"] = lambda: start
    taken(app, 3)

    with pytest.raises(TooOften) as refused:
        limits.take(LIMIT, "ana")
    assert refused.value.wait_seconds == 10


def test_two_processes_share_a_bucket(settings: Settings) -> None:
    barrier = threading.Barrier(6)
    done: list[int] = []
    # One after the other: routes are compiled, which Python 3.11 can't do in two threads (CPython issue 106905).
    cores = [create_app(settings) for _ in range(6)]

    def process(core: Flask) -> None:
        with core.app_context():
            db.session.connection()
            barrier.wait(30)
            done.append(taken(core, 5))

    threads = [threading.Thread(target=process, args=(core,)) for core in cores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for core in cores:
        dispose(core)

    assert sum(done) == 3


def test_full_buckets_are_dropped(app: Flask) -> None:
    taken(app, 1)
    db.session.execute(text("update allowance set at = now() - interval '3 days'"))
    limits.drop_full_allowances(db.session.connection())

    assert db.session.scalars(select(Allowance)).all() == []
