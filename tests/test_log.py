"""Logs: one JSON line each, with the trace, without secrets or personal data."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from bot_manager import log

ROOT = Path(__file__).parent.parent
CANARIES = [
    "123456789:AAExampleTokenOfABotThatIsLongEnough01",
    "https://api.telegram.org/bot123456789:AAExampleTokenOfABotThatIsLongEnough01/sendMessage",
    "POST /webhook/pushinpay/Zm9vYmFyYmF6c2VjcmV0c2VjcmV0?t=tokentokentoken",
    "Authorization: Bearer abc.def-ghi_jkl",
    "ana.souza@example.com",
    "123.456.789-09",
    "12345678909",
    "+5511987654321",
    "postgresql://shop:hunter2@db/shop",
]
SECRETS = [
    "AAExample",
    "Zm9vYmFy",
    "tokentoken",
    "abc.def",
    "ana.souza",
    "456.789",
    "12345678909",
    "11987654",
    "hunter2",
]


class Written:
    """A logger of its own, and what it wrote."""

    def __init__(self, log_format: str) -> None:
        self.stream = StringIO()
        self.logger = logging.Logger("x", logging.INFO)  # noqa: LOG001  (not to be shared)
        self.logger.addHandler(log.handler(log_format, self.stream))

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


def test_a_line_is_json_with_trace_and_seller() -> None:
    written = Written("json")
    with log.bound("trace-1", 7):
        written.logger.info("hello", extra={"payment": 3})

    (line,) = written.lines()
    assert {name: line[name] for name in ("level", "message", "trace_id", "seller", "payment")} == {
        "level": "INFO",
        "message": "hello",
        "trace_id": "trace-1",
        "seller": 7,
        "payment": 3,
    }


@pytest.mark.parametrize("canary", CANARIES)
def test_no_secret_and_no_personal_data_reaches_a_line(canary: str) -> None:
    written = Written("json")
    try:
        raise ValueError(canary)
    except ValueError:
        written.logger.exception("about %s", canary, extra={"detail": canary})

    text = json.dumps(written.lines())
    assert not [secret for secret in SECRETS if secret in text]


def test_a_line_can_not_be_forged() -> None:
    written = Written("json")
    written.logger.info('name\n{"level": "CRITICAL"}\x1b[31m')

    assert len(written.lines()) == 1


def test_the_console_format_is_one_calm_line() -> None:
    written = Written("console")
    with log.bound(""):
        written.logger.warning("careful", extra={"bot": 4})

    assert "WARNING careful  bot=4" in written.stream.getvalue()


@pytest.mark.parametrize(
    "fault",
    [
        "raise ValueError(canary)",
        "thread = threading.Thread(target=lambda: int(canary)); thread.start(); thread.join()",
        "server = logging.getLogger('gunicorn.error'); server.error('Error handling request %s', canary)",
        "class Odd:\n    def __del__(self): int(canary)\nOdd()",
    ],
)
def test_what_nobody_caught_is_told_like_any_other_error(fault: str) -> None:
    """By the interpreter, a thread, the server that serves us: each has ways of its own to write it down."""
    canary = "/webhook/woovi/Zm9vYmFyYmF6 ana.souza@example.com"
    told = "import logging, sys, threading; from bot_manager import log; canary = sys.argv[1]\n"
    told += "logging.getLogger('gunicorn.error').addHandler(logging.StreamHandler())\n"
    told += f"logging.getLogger('gunicorn.error').propagate = False\nlog.set_up('json', 'INFO')\n{fault}"
    done = subprocess.run([sys.executable, "-c", told, canary], capture_output=True, text=True, check=False, cwd=ROOT)

    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert line["level"] in ("ERROR", "CRITICAL")
    assert "Zm9vYmFy" not in done.stderr
    assert "ana.souza" not in done.stderr
    assert done.returncode == (1 if fault.startswith("raise") else 0)
