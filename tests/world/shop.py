"""Our own end of the line, for the fakes' own tests: a server that takes notices and updates with 200."""

from __future__ import annotations

from typing import Any

from tests.world.calls import Call
from tests.world.server import Fake, route


class Shop(Fake):
    """Everything it gets is in `calls`; `fail` makes it refuse."""

    @route("POST", "/hook.*")
    def hook(self, call: Call) -> dict[str, Any]:
        return {"ok": True}

    @property
    def hook_url(self) -> str:
        return f"{self.url}/hook"

    def bodies(self) -> list[Any]:
        return [call.json for call in self.calls]
