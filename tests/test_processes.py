from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from bot_manager.ops import children
from bot_manager.ops.children import Process
from bot_manager.ops.postgres import Server, answers
from tests.until import until

ROOT = Path(__file__).parent.parent
# Stands for web and worker: notes what happens to it, answers on PORT if it is web, has a child of its own.
FAKE = """
import os, pathlib, signal, socket, subprocess, sys, time
name, home, manner = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]

def note(text):
    with (home / "notes").open("a") as notes:
        notes.write(f"{name} {text}\\n")

def leave(number, frame):
    note(f"got {signal.Signals(number).name}")
    if manner == "stubborn":
        return
    if manner == "last words":
        import psycopg
        psycopg.connect(os.environ["DATABASE_URL"]).close()
        note("still had its database")
    sys.exit(0)

signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGINT, leave)
below = subprocess.Popen(["sleep", "300"])
note(f"began {os.getpid()} {below.pid}")
if manner == "fleeting":
    sys.exit(3)
if name == "web":
    server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
    while True:
        connection, _ = server.accept()
        connection.recv(1000)
        connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n{}")
        connection.close()
while True:
    time.sleep(300)
"""
SUPERVISOR = """
import sys
from bot_manager.ops.processes import CannotRun, run
from bot_manager.settings import Settings
fake, home, *manners = sys.argv[1:]
commands = {name: (sys.executable, fake, name, home, manner) for name, manner in zip(("web", "worker"), manners)}
try:
    code = run(Settings.from_env(), lambda urls: "First login: ana", migrate=lambda urls: None, commands=commands)
except CannotRun as error:
    sys.exit(str(error))
sys.exit(code)
"""


class House:
    """A supervisor over fakes, seen from outside."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.server = Server(home / "var")
        (home / "fake.py").write_text(FAKE)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.supervisors: list[subprocess.Popen[str]] = []

    def run(self, web: str = "plain", worker: str = "plain") -> subprocess.Popen[str]:
        env = {"PATH": os.environ["PATH"], "DATA_DIR": str(self.home / "var"), "PORT": str(self.port)}
        words = [sys.executable, "-c", SUPERVISOR, str(self.home / "fake.py"), str(self.home), web, worker]
        self.supervisors.append(
            subprocess.Popen(words, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
        return self.supervisors[-1]

    def notes(self) -> list[str]:
        path = self.home / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def pids(self, name: str) -> list[list[int]]:
        """For each time it began: its number and its child's."""
        lines = [line.split() for line in self.notes()]
        return [[int(word) for word in rest] for who, what, *rest in lines if (who, what) == (name, "began")]

    def begun(self, name: str, times: int = 1) -> list[int]:
        return until(lambda: self.pids(name)[times - 1 :])[0]

    def all_begun(self) -> list[int]:
        return [*self.begun("web"), *self.begun("worker")]

    def clear(self) -> None:
        for supervisor in self.supervisors:
            supervisor.kill()
        children.end_leftovers(f"BOT_MANAGER_RUN={self.home / 'var'}")
        for supervisor in self.supervisors:
            supervisor.communicate()
        self.server.stop()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.clear()


def alive(pid: int) -> bool:
    with suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def test_it_says_where_the_panel_is_once_that_answers(house: House) -> None:
    supervisor = house.run()
    house.all_begun()
    assert supervisor.stdout
    block = [supervisor.stdout.readline().strip() for _ in range(6)]
    assert f"Bot Manager is at http://127.0.0.1:{house.port}" in block
    assert "First login: ana" in block
    assert any("No PUBLIC_URL" in line for line in block)


def test_ctrl_c_reaches_each_program_once_and_the_database_goes_last(house: House) -> None:
    supervisor = house.run(worker="last words")
    pids = house.all_begun()
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(20) == 0
    said = [line for line in house.notes() if "began" not in line]
    assert sorted(said) == ["web got SIGTERM", "worker got SIGTERM", "worker still had its database"]
    assert not any(alive(pid) for pid in pids)
    assert not house.server.runs()


def test_a_killed_program_is_started_again(house: House) -> None:
    house.run()
    first, below = house.begun("worker")
    os.kill(first, signal.SIGKILL)
    second, _ = until(lambda: house.pids("worker")[1:], seconds=5)[0]
    assert alive(second)
    assert not alive(below)  # a headless child could have kept its port


@pytest.mark.slow
def test_a_killed_database_is_started_again(house: House) -> None:
    house.run()
    pids = house.all_begun()
    with psycopg.connect(house.server.urls.owner) as connection:
        connection.execute("create table kept as select 42 as n")
    os.kill(house.server._postmaster() or 0, signal.SIGKILL)
    until(lambda: not answers(house.server.urls.owner))
    until(lambda: answers(house.server.urls.owner))
    with psycopg.connect(house.server.urls.owner) as connection:
        assert connection.execute("select n from kept").fetchone() == (42,)
    assert all(alive(pid) for pid in pids)


def test_everything_dies_with_a_killed_supervisor(house: House) -> None:
    supervisor = house.run()
    pids = house.begun("web")[:1] + house.begun("worker")[:1]
    supervisor.kill()
    until(lambda: not any(alive(pid) for pid in pids))
    until(lambda: not house.server.runs())


@pytest.mark.slow
def test_the_next_start_ends_what_a_killed_supervisor_left(house: House) -> None:
    supervisor = house.run(worker="stubborn")
    stubborn, below = house.begun("worker")
    house.begun("web")
    supervisor.kill()
    house.run()
    house.begun("web", times=2)
    house.begun("worker", times=2)
    assert not alive(stubborn)
    assert not alive(below)


def test_a_second_run_on_the_same_data_is_refused(house: House) -> None:
    first = house.run()
    house.all_begun()
    second = house.run()
    _, error = second.communicate(timeout=20)
    assert second.returncode == 1
    assert f"process {first.pid} already runs on {house.home / 'var'}" in error


def test_a_taken_port_is_said(house: House) -> None:
    house.run()
    house.all_begun()
    (house.home / "other").mkdir()
    other = House(house.home / "other")
    other.port = house.port
    _, error = other.run().communicate(timeout=20)
    assert f"port {house.port}" in error


def test_it_stops_although_it_was_asked_before_it_was_up(house: House) -> None:
    supervisor = house.run()
    until((house.home / "var" / "run.lock").exists)
    until(house.server.data.path.exists)
    supervisor.terminate()
    assert supervisor.wait(20) == 0
    assert not house.server.runs()


def test_a_database_that_another_command_started_is_used_and_left_to_the_last_one_out(house: House) -> None:
    with house.server.used():
        house.server.start()
        supervisor = house.run()
        house.all_begun()
        supervisor.terminate()
        assert supervisor.wait(20) == 0
        assert answers(house.server.urls.owner)
    assert not house.server.runs()


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Mayfly:
    def poll(self) -> int:
        return 1


def test_what_keeps_dying_young_is_started_ever_later(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, starts = Clock(), []
    monkeypatch.setattr(children, "time", clock)

    def start() -> Mayfly:
        starts.append(clock.now)
        return Mayfly()

    process = Process("mayfly", start)
    for _ in range(400):
        process.tend()
        clock.now += 0.1
    gaps = [round(later - earlier, 1) for earlier, later in pairwise(starts)]
    assert gaps[0] < 1
    assert gaps == sorted(gaps)
    assert 9.9 < gaps[-1] < 10.5


def test_a_start_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, tries = Clock(), []
    monkeypatch.setattr(children, "time", clock)

    def start() -> Mayfly:
        tries.append(clock.now)
        raise OSError("no memory")

    process = Process("unlucky", start)
    for _ in range(30):
        process.tend()
        clock.now += 0.1
    assert len(tries) > 1
