"""The panel's test chat: a channel like the others, in the browser. What is "sent" is simply there to be shown."""

from __future__ import annotations

from typing import Any

from bot_manager.channels.base import Content, Heard

CHANNEL = "panel"


def read(body: dict[str, Any]) -> Heard:
    """body: {"kind": "start" | "text" | "tap", "text"}."""
    return Heard(kind=str(body["kind"]), text=str(body.get("text", "")), profile={"first_name": "Você (teste)"})


class InPanel:
    """The sending side: the message's row is all that the browser needs."""

    async def send(self, token: str, chat_id: str, content: Content) -> str:
        return "shown"
