from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from bot_manager.ops import plain_user
from bot_manager.ops.postgres import Server, Unavailable, answers, bin_dir, running
from bot_manager.ops.postgres_data import Data
from bot_manager.settings import Settings
from tests.until import until

ROOT = Path(__file__).parent.parent
USER = """
import sys
from pathlib import Path
from bot_manager.ops.postgres import running
from bot_manager.settings import Settings
with running(Settings(data_dir=Path(sys.argv[1]))) as urls:
    print(urls.owner, flush=True)
    sys.stdin.readline()
"""
Start = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that is made once; each test starts and stops the server in it."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    server = Server(home)
    yield server
    server.stop()


@pytest.fixture
def user() -> Iterator[Start]:
    """Starts processes that use the server until they are told or killed."""
    with_them: list[subprocess.Popen[str]] = []

    def start(home: Path, *before: str) -> subprocess.Popen[str]:
        words = [*before, sys.executable, "-c", USER, str(home)]
        with_them.append(subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return with_them[-1]

    yield start
    for process in with_them:
        process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def birth(server: Server) -> object:
    return ask(server.urls.owner, "select pg_postmaster_start_time()")


def test_it_starts_by_itself_and_is_gone_after(server: Server, home: Path) -> None:
    with running(Settings(data_dir=home)) as urls:
        assert ask(urls.app, "select current_database()") == "bot_manager"
    assert not server.runs()
    assert not server._processes()


def test_the_given_database_is_used_when_there_is_one(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url="postgresql://app@db/shop")
    with running(settings) as urls:
        assert (urls.app, urls.owner) == ("postgresql://app@db/shop", "postgresql://app@db/shop")
    assert not list(tmp_path.iterdir())


def test_the_application_has_a_plain_role_that_owns_nothing(server: Server) -> None:
    with server.used():
        server.start()
        role = "select row(rolsuper, rolbypassrls, rolcreatedb, rolcreaterole)::text from pg_roles where rolname = user"
        assert ask(server.urls.app, role) == "(f,f,f,f)"
        assert ask(server.urls.owner, "select rolsuper from pg_roles where rolname = user") is True
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(server.urls.app, "create table mine ()")


def test_only_a_private_socket_is_open(server: Server) -> None:
    with server.used():
        server.start()
        assert ask(server.urls.owner, "show listen_addresses") == ""
        assert (server.socket_dir / ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o700
    assert server.data.path.stat().st_mode & 0o777 == 0o700


def test_what_is_committed_is_on_the_disk(server: Server) -> None:
    with server.used():
        server.start()
        assert [ask(server.urls.app, f"show {name}") for name in ("fsync", "synchronous_commit")] == ["on", "on"]


def test_a_second_process_attaches_and_the_last_one_out_stops_it(server: Server, home: Path, user: Start) -> None:
    first = user(home)
    assert ready(first) == server.urls.owner
    born = birth(server)
    with server.used():
        server.start()
        first.communicate("leave\n")
        assert birth(server) == born
    assert not server.runs()


def test_the_first_one_out_leaves_it_running(server: Server, home: Path, user: Start) -> None:
    other = user(home)
    ready(other)
    with running(Settings(data_dir=home)):
        pass
    assert answers(server.urls.owner)
    other.communicate("leave\n")
    assert not server.runs()


def test_processes_that_start_together_share_one_server(tmp_path: Path, user: Start) -> None:
    server = Server(tmp_path)
    processes = [user(tmp_path) for _ in range(3)]
    assert {ready(process) for process in processes} == {server.urls.owner}
    born = birth(server)
    assert all(process.communicate("leave\n") for process in processes)
    assert born
    assert not server.runs()


def test_who_waits_while_another_launches_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launching, waiting = Server(tmp_path), Server(tmp_path)
    counted: list[float] = []
    monkeypatch.setattr(waiting, "_end_orphans", counted.append)
    thread = threading.Thread(target=waiting.start)

    def prepare_for_long() -> None:
        prepare()
        thread.start()
        until(lambda: len(counted) > 12)

    prepare = launching.data.prepare
    monkeypatch.setattr(launching.data, "prepare", prepare_for_long)
    with launching.used():
        launching.start()
        thread.join()

    assert max(counted) < 0.4, "the time of a launch counted as time without a server"


def test_a_killed_user_does_not_count(server: Server, home: Path, user: Start) -> None:
    killed = user(home)
    ready(killed)
    killed.kill()
    killed.communicate()
    assert answers(server.urls.owner)  # nobody was left to stop it
    with running(Settings(data_dir=home)):
        pass
    assert not server.runs()


def test_it_is_back_after_a_kill_with_all_that_was_committed(server: Server) -> None:
    with server.used():
        server.start()
        ask(server.urls.owner, "create table if not exists kept as select 42 as n")
        postmaster = server._postmaster()
        assert postmaster
        os.kill(postmaster, signal.SIGKILL)
        until(lambda: not answers(server.urls.owner))
        server.start()
        assert ask(server.urls.owner, "select n from kept") == 42


def test_it_is_back_after_all_of_it_was_killed(server: Server) -> None:
    with server.used():
        server.start()
        server._signal(signal.SIGKILL)
        server.start()
        assert answers(server.urls.app)


@pytest.mark.slow
def test_a_statement_that_goes_on_without_its_server_does_not_keep_the_next_from_starting(server: Server) -> None:
    def be_busy() -> None:
        with pytest.raises(psycopg.OperationalError):
            ask(server.urls.owner, "/* endless */ select count(*) from generate_series(1, 1000000000000)")

    with server.used():
        server.start()
        busy = threading.Thread(target=be_busy)
        busy.start()
        running_now = "select count(*) from pg_stat_activity where query like '/* endless%' and state = 'active'"
        until(lambda: ask(server.urls.owner, running_now) == 1)
        os.kill(server._postmaster() or 0, signal.SIGKILL)
        until(lambda: not answers(server.urls.owner))
        server.start()
        assert answers(server.urls.owner)
        busy.join(10)


def test_an_old_note_with_a_number_that_is_now_another_process(server: Server) -> None:
    with running(Settings(data_dir=server.data.home)):
        note = (server.data.path / "postmaster.pid").read_text()
    lines = note.splitlines()
    (server.data.path / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with server.used():
        server.start()
        assert answers(server.urls.owner)


def test_a_half_made_directory_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18\n")
    with running(Settings(data_dir=tmp_path)) as urls:
        assert answers(urls.app)
    assert not (tmp_path / "postgres.new").exists()


def test_a_long_path_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 25)
    server = Server(home)
    assert server.socket_dir != server.data.path
    with running(Settings(data_dir=home)) as urls:
        assert answers(urls.app)
        assert server.socket_dir.stat().st_mode & 0o777 == 0o700
    assert not server.socket_dir.exists()


def test_a_path_with_a_comma_is_served(tmp_path: Path) -> None:
    with running(Settings(data_dir=tmp_path / "a, b")) as urls:
        assert answers(urls.app)


def test_a_socket_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    server = Server(tmp_path / ("long" * 25))
    server.socket_dir.mkdir()
    server.socket_dir.chmod(0o777)
    with pytest.raises(Unavailable, match="somebody else"), server.used():
        server.start()
    assert not server.socket_dir.exists()  # it was empty


def test_data_of_another_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    data.mkdir()
    (data / "PG_VERSION").write_text("15\n")
    with (
        pytest.raises(Unavailable, match=r"made by PostgreSQL 15.*restore a backup") as caught,
        running(Settings(data_dir=tmp_path)),
    ):
        pass
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("words", "problem", "permanent"),
    [
        ("FATAL:  could not write lock file: No space left on device", "disk is full.*make room", False),
        ("[Errno 13] Permission denied: '/x'", "can't be written.*DATA_DIR", True),
        ("LOG:  starting\nFATAL:  odd\n", r"did not start \(FATAL:  odd\).*postgres\.log", True),
    ],
)
def test_errors_say_what_to_do(tmp_path: Path, words: str, problem: str, permanent: bool) -> None:
    error = Data(tmp_path).explain(words)
    assert error.permanent is permanent
    with pytest.raises(Unavailable, match=problem):
        raise error


def test_what_postgres_says_reaches_the_operator(server: Server) -> None:
    with running(Settings(data_dir=server.data.home)):
        pass
    configuration = server.data.path / "postgresql.conf"
    whole = configuration.read_text()
    configuration.write_text("no_such_setting = 1\n")
    try:
        with pytest.raises(Unavailable, match="did not start"), server.used():
            server.start()
    finally:
        configuration.write_text(whole)


def test_the_programs_for_backups_are_there() -> None:
    done = subprocess.run([bin_dir() / "pg_dump", "--version"], capture_output=True, text=True, check=True)
    assert "18." in done.stdout


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@root_only
def test_root_runs_it_as_a_plain_user_even_in_a_private_directory(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    server = Server(private / "var")
    with server.used():
        server.start()
        owner = Path(f"/proc/{server._postmaster()}").stat().st_uid
        assert owner == server.data.path.stat().st_uid != 0
    assert private.stat().st_mode & 0o777 == 0o700
    assert private.stat().st_uid == 0


@root_only
def test_root_serves_a_plain_users_data_as_that_user(tmp_path: Path, user: Start) -> None:
    uid, gid = plain_user.owner_of()
    home = tmp_path / "var"
    home.mkdir()
    os.chown(home, uid, gid)
    # The capability is for finding Python and this checkout, which may be under /root.
    reach = [f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *plain_user._keep("dac_read_search")]
    plain = user(home, "setpriv", *reach, "--")
    assert ready(plain)
    plain.communicate("leave\n")
    with running(Settings(data_dir=home)) as urls:
        assert answers(urls.app)
    assert {path.stat().st_uid for path in home.iterdir()} == {uid}


@root_only
def test_no_user_but_root_can_run_it() -> None:
    with pytest.raises(plain_user.NoPlainUser):
        plain_user.setpriv(65534, 65534, program=Path("/no/such/program"), home=Path("/"))
