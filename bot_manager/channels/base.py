"""The channel contract: what is said to a customer, what is heard from one, and how sending fails.

Channels know no tables. Errors, caught by `messages.send`::

    ChannelError              `permanent` says whether the same message could ever arrive
    ├── Refused               the channel does not take this message (400): permanent
    ├── Blocked               the customer blocked the bot, or never started it: permanent until they are back
    ├── TokenRefused          the bot's token is not accepted (401, 404): the seller must act
    ├── TokenInUse            somebody else fetches this bot's updates (409): the seller must act
    ├── SlowDown              too fast (429): `retry_after` seconds; `chat` says whether only this chat
    ├── Unsent                nothing left this machine (DNS, connect, 5xx): try again
    └── Ambiguous             sent, no answer: whether it arrived is unknown
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self


class ChannelError(Exception):
    permanent: ClassVar[bool] = False


class Refused(ChannelError):
    """The channel does not take this message; the same one would be refused again."""

    permanent = True


class Blocked(ChannelError):
    """This customer can't be written to until they come back."""

    permanent = True


class TokenRefused(ChannelError):
    """The bot's token is not accepted any more."""


class TokenInUse(ChannelError):
    """Somebody else fetches this bot's updates, or has them pushed elsewhere."""


class SlowDown(ChannelError):
    """Too many messages; `retry_after` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"slow down for {retry_after:g} s")
        self.retry_after = retry_after


class Unsent(ChannelError):
    """The message did not leave; it may be sent again."""


class Ambiguous(ChannelError):
    """The message left and no answer came: whether it arrived is unknown."""


@dataclass(frozen=True, slots=True)
class Button:
    """label and one of: data (comes back as a tap, ≤ 64 bytes), url (opens), copy (goes to the clipboard, ≤ 256)."""

    label: str
    data: str | None = None
    url: str | None = None
    copy: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """One message. text: HTML with <b>, <i>, <code>, <a>; one button a row; qr: the text of a QR code to show."""

    text: str
    buttons: tuple[Button, ...] = ()
    qr: str | None = None

    def as_json(self) -> dict[str, Any]:
        buttons = [{name: value for name, value in asdict(b).items() if value is not None} for b in self.buttons]
        return {"text": self.text, "buttons": buttons, "qr": self.qr}

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Self:
        return cls(body["text"], tuple(Button(**button) for button in body["buttons"]), body["qr"])


@dataclass(frozen=True, slots=True)
class Heard:
    """What a customer did, in any channel's terms.

    kind: "start" (text: the deep link's payload), "text", "tap" (text: the button's data), "asks_in" (text: the
    group's id), "blocked", "unblocked", or "other", which is kept and not answered.
    profile: what the channel tells of the person {first_name, last_name, username, language}.
    """

    kind: str
    text: str = ""
    tap_id: str | None = None
    profile: dict[str, str] | None = None
