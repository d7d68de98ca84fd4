"""What came in, and what a fake refused of it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web
from werkzeug.formparser import FormDataParser

from tests.world.faults import Answer, Reply


@dataclass(frozen=True)
class Call:
    """One request as it came in. path: without the query; headers: names in lower case; at: aware, UTC."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @cached_property
    def json(self) -> Any:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.body, parse_constant=_refuse_constant)
        except ValueError:
            return None

    @cached_property
    def form(self) -> dict[str, str]:
        """The fields of a form, multipart or not."""
        return self._parsed[0]

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The files of a multipart form."""
        return self._parsed[1]

    @cached_property
    def _parsed(self) -> tuple[dict[str, str], dict[str, bytes]]:
        kind, _, rest = self.headers.get("content-type", "").partition(";")
        options = {"boundary": match[1]} if (match := re.search(r'boundary="?([^";]+)', rest)) else {}
        parser = FormDataParser(stream_factory=lambda **_: io.BytesIO(), max_form_memory_size=None)
        _, form, files = parser.parse(io.BytesIO(self.body), kind.strip(), len(self.body), options)
        return dict(form.items()), {name: file.read() for name, file in files.items()}


@dataclass(frozen=True)
class Refusal:
    """A call that the real company would have refused, and what it was told."""

    call: Call
    status: int
    body: Answer


class Refused(Exception):
    """Raised by a fake's handler: the call is answered with this status and body."""

    def __init__(self, status: int, body: Answer, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.reply = Reply(body, status, headers or {})


async def read(request: web.Request) -> Call:
    body = await request.read()
    headers = {name.lower(): value for name, value in request.headers.items()}
    query = dict(parse_qsl(request.query_string, keep_blank_values=True))
    return Call(request.method, request.path, query, headers, body)


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")
