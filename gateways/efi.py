"""Efí (formerly Gerencianet): the Central Bank's Pix API with a certificate for every call.

Facts from its public documentation and SDK; what it leaves open is listed in docs/gateways.md.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from gateways.base import Account
from gateways.pix_api import PixApi


class Efi(PixApi):
    kind = "efi"
    label = "Efí"
    api_url = "https://pix.api.efipay.com.br"
    registers = True

    def register_webhook(self, account: Account, url: str) -> None:
        """For the Pix key: all that comes in by it is told there, whoever made the charge."""
        # It calls `<url>/pix`, which `ignorar=` turns into a parameter's value, and would demand that our server asks
        # for its certificate, which a server behind another one can't.
        target = f"{url}{'&' if '?' in url else '?'}ignorar="
        path = f"/v2/webhook/{quote(account.credentials['pix_key'], safe='')}"
        self._ask(account, "PUT", path, json={"webhookUrl": target}, headers={"x-skip-mtls-checking": "true"})

    def token_request(self) -> dict[str, Any]:
        return {"json": {"grant_type": "client_credentials"}}


gateway = Efi()
