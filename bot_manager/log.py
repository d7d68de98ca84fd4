"""Structured logs: one JSON line each, with trace and seller, secrets and personal data masked."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TextIO

trace_id: ContextVar[str] = ContextVar("trace_id", default="")
seller_id: ContextVar[int | None] = ContextVar("seller_id", default=None)

logger = logging.getLogger(__name__)

_WITH_OWN_WAYS = ("gunicorn.error",)
_QUIET = ("procrastinate", "apscheduler", "urllib3", "aiohttp.access", "alembic", "asyncio", "telegram")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

# What may stand in a text that we did not write ourselves: addresses with tokens, headers, personal data. Whatever can
# begin anywhere has a longest length, so that a hostile text costs no more than its size.
_MASKS = (
    (re.compile(r"/bot\d{1,20}:[\w-]+"), "/bot***"),
    (re.compile(r"\b\d{6,12}:[\w-]{30,}"), "***"),
    (re.compile(r"(/webhook/[\w-]{1,40}/)[^/?\s\"']+"), r"\1***"),
    (re.compile(r"(/(?:convite|tg)/)[^/?\s\"']+"), r"\1***"),
    (re.compile(r"([?&](?:t|token|access_token|api_token|secret|webhookSecret)=)[^&\s\"']+", re.IGNORECASE), r"\1***"),
    (re.compile(r"((?:Bearer|Basic)\s+)[\w.~+/=-]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"(postgres(?:ql)?(?:\+\w{1,20})?://[^:/@\s]{1,100}:)[^@\s]{1,200}@"), r"\1***@"),
    (re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{1,200}"), "***@***"),
    (re.compile(r"\b\d{3}\.?\d{3}\.?\d{3}-?\d{2}\b"), "***"),
    (re.compile(r"\+\d{10,15}\b"), "+***"),
)


def masked(text: str) -> str:
    """The text without what must not be in a log."""
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    return text


# What another company says of an error may quote what it was sent.
_QUOTES = re.compile(r"""["'“”«»][^"'“”«»]{1,200}["'“”«»]|\b\d[\d.\-/ ]{6,20}\d\b|\S{24,}""")

# Errors that speak of code and sockets, not of anybody.
_OF_CODE = (OSError, ImportError, AttributeError, NameError, TypeError, AssertionError, RecursionError, TimeoutError)


def of_others(text: str) -> str:
    """Another company's words about an error, without what they may quote, fit to be kept and shown."""
    return _QUOTES.sub("***", masked(text[:1000]))[:300]


def told(error: BaseException) -> str:
    """The error's type, with its words if they are ours or of code. Any other's may be somebody's name or document."""
    ours = hasattr(error, "permanent")
    of_code = isinstance(error, _OF_CODE) and type(error).__module__ == "builtins"
    state = getattr(error, "sqlstate", None) or getattr(getattr(error, "orig", None), "sqlstate", None)
    words = masked(str(error)) if ours or of_code else f"SQLSTATE {state}" if state else ""
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _trace(error: BaseException) -> str:
    """Where it was raised, and what caused it, first things first."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = f"{_trace(cause)}\n\nled to\n\n" if cause else ""
    return f"{before}Traceback:\n{''.join(traceback.format_tb(error.__traceback__))}{told(error)}"


def one_line(text: str) -> str:
    """The text with what would begin a line, or steer a terminal, escaped: strangers choose some of it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def new_trace_id() -> str:
    return uuid.uuid4().hex


@contextmanager
def bound(trace: str, seller: int | None = None) -> Iterator[None]:
    """Everything logged inside carries this trace and seller."""
    tokens = trace_id.set(trace), seller_id.set(seller)
    try:
        yield
    finally:
        trace_id.reset(tokens[0])
        seller_id.reset(tokens[1])


def set_up(log_format: str, level: str) -> None:
    """From here on all that this process says goes through us, also what nobody caught."""
    root = logging.getLogger()
    root.handlers = [handler(log_format, sys.stderr)]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _WITH_OWN_WAYS:
        other = logging.getLogger(name)
        other.handlers, other.propagate = [], True
    sys.excepthook = _not_caught
    threading.excepthook = lambda what: _not_caught(what.exc_type, what.exc_value, what.exc_traceback)
    sys.unraisablehook = lambda what: _not_caught(what.exc_type, what.exc_value, what.exc_traceback)


def _not_caught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    """The interpreter would write down its words, which may be anybody's."""
    if error is None or issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), traceback)
    elif not issubclass(kind, SystemExit):
        logger.critical("nobody caught an error", exc_info=(kind, error, traceback))


def handler(log_format: str, stream: TextIO) -> logging.Handler:
    """Writes lines to the stream; log_format: json or console."""
    made = logging.StreamHandler(stream)
    made.setFormatter(_Json() if log_format == "json" else _Console())
    return made


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return one_line(json.dumps(_fields(record), ensure_ascii=False, default=str))


class _Console(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        head = f"{time.strftime('%H:%M:%S')} {fields.pop('level'):7} {fields.pop('message')}"
        trace = "".join(f"\n    {one_line(line)}" for line in fields.pop("error", "").splitlines())
        rest = " ".join(f"{name}={value}" for name, value in fields.items() if name not in ("at", "logger") and value)
        return one_line(f"{head}  {rest}".rstrip()) + trace


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
        "level": record.levelname,
        "logger": record.name,
        "message": masked(record.getMessage()),
        "trace_id": trace_id.get(),
        "seller": seller_id.get(),
    }
    extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    fields.update({name: _fit(value) for name, value in extra.items()})
    if record.exc_info and record.exc_info[1]:
        fields["error"] = masked(_trace(record.exc_info[1]))
    return fields


def _fit(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _fit(each) for name, each in value.items()}
    return masked(value) if isinstance(value, str) else value
