"""What every payment company's fake has, whatever its API."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.world.notices import Notifying


class FakeGateway(Notifying):
    """charges: by whatever the company names them; each is a `bank.Charge`."""

    kind: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.charges: dict[Any, Any] = {}

    def open_account(self, number: int) -> dict[str, str]:
        """A new account of the company; answers the credentials that its seller pastes into ours."""
        raise NotImplementedError

    def connect(self, credentials: dict[str, str], url: str) -> None:
        """Where the account's notices go, for companies that do not take an address with each charge."""

    def hint(self, charge: Any) -> object:
        """Sends a notice that says "paid" of this charge, true or not, in a form that proves nothing."""
        raise NotImplementedError
