"""Meta's Conversions API, strict. The product's base URL is `fake.url`; events go to /v26.0/<pixel id>/events.

Stricter than the real one where a mistake would only show in the ads account weeks later: the token must come in the
Authorization header (in a URL it lands in logs), user_data must hold known keys only, and nothing may look like a CPF.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.world.calls import Call, Refused
from tests.world.meta_rules import problem_with
from tests.world.server import Fake, route

Event = dict[str, Any]
_VERSIONS = ("v24.0", "v25.0", "v26.0")
_BATCH = 1000


@dataclass
class Pixel:
    """events: those accepted, in the order they came; tested: those that came with a test_event_code."""

    id: str
    token: str
    events: list[Event] = field(default_factory=list)
    tested: list[Event] = field(default_factory=list)


class FakeMeta(Fake):
    """clock: what time it is, for the age of events."""

    def __init__(self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__()
        self.clock = clock
        self.pixels: dict[str, Pixel] = {}

    def add_pixel(self, pixel_id: str, token: str) -> Pixel:
        self.pixels[pixel_id] = Pixel(pixel_id, token)
        return self.pixels[pixel_id]

    def revoke(self, token: str) -> None:
        """The token answers 190 from now on."""
        for pixel in self.pixels.values():
            if pixel.token == token:
                pixel.token = ""

    # Looking back

    def ledger(self) -> Counter[tuple[str, str, str]]:
        """{(pixel id, event name, event id): how often it was accepted}; more than once is our mistake."""
        return Counter(_key(pixel, event) for pixel in self.pixels.values() for event in pixel.events)

    def deduplicated(self, pixel_id: str | None = None) -> list[Event]:
        """What counts: of each (pixel, name, id) the first; events without an id all count."""
        pixels = [pixel for pixel in self.pixels.values() if pixel_id in (None, pixel.id)]
        first: dict[Any, Event] = {}
        for pixel in pixels:
            for event in pixel.events:
                first.setdefault(_key(pixel, event) if event.get("event_id") else id(event), event)
        return list(first.values())

    # The API

    @route("POST", "/{version}/{pixel_id}/events")
    def receive(self, call: Call, version: str, pixel_id: str) -> dict[str, Any]:
        pixel = self._pixel(call, version, pixel_id)
        body = call.json
        events = body.get("data") if isinstance(body, dict) else None
        if not isinstance(events, list) or not events:
            raise _invalid("param data must be a non-empty array")
        if len(events) > _BATCH:
            raise _invalid(f"Too many events: {len(events)}, at most {_BATCH}", 2804019)
        for number, event in enumerate(events):
            if problem := problem_with(event, self.clock()):
                raise _invalid(f"event {number}: {problem.text}", problem.subcode, problem.title)
        (pixel.tested if body.get("test_event_code") else pixel.events).extend(events)
        return {"events_received": len(events), "messages": [], "fbtrace_id": _trace()}

    @route("GET", "/{version}/{pixel_id}")
    def show(self, call: Call, version: str, pixel_id: str) -> dict[str, Any]:
        return {"id": self._pixel(call, version, pixel_id).id, "name": "Pixel de teste"}

    def _pixel(self, call: Call, version: str, pixel_id: str) -> Pixel:
        if version not in _VERSIONS:
            raise _refused(2635, f"You are calling a deprecated version of the API: {version}")
        if "access_token" in call.query or b"access_token" in call.body:
            raise _invalid("the access token belongs into the Authorization header")
        token = _token(call)
        if not token or token not in {pixel.token for pixel in self.pixels.values()}:
            raise _refused(190, "Invalid OAuth access token - Cannot parse access token")
        pixel = self.pixels.get(pixel_id)
        if pixel is None or pixel.token != token:
            text = f"Unsupported post request. Object with ID '{pixel_id}' does not exist or lacks permissions"
            raise _refused(100, text, 33, kind="GraphMethodException")
        return pixel

    def unknown(self, call: Call) -> Refused:
        return _refused(2500, f"Unknown path components: {call.path}")


def _token(call: Call) -> str:
    kind, _, token = call.headers.get("authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


def _key(pixel: Pixel, event: Event) -> tuple[str, str, str]:
    return pixel.id, event["event_name"], event.get("event_id", "")


def _invalid(text: str, subcode: int | None = None, title: str = "") -> Refused:
    return _refused(100, f"Invalid parameter: {text}", subcode, title=title, user_text=text)


def _refused(
    code: int,
    message: str,
    subcode: int | None = None,
    *,
    kind: str = "OAuthException",
    title: str = "",
    user_text: str = "",
) -> Refused:
    error: dict[str, Any] = {"message": message, "type": kind, "code": code, "is_transient": False}
    error |= {"error_subcode": subcode} if subcode else {}
    error |= {"error_user_title": title, "error_user_msg": user_text} if title else {}
    return Refused(400, {"error": {**error, "fbtrace_id": _trace()}})


def _trace() -> str:
    return "A" + secrets.token_urlsafe(16)
