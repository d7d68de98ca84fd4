"""A shop file, and two providers that exist nowhere else."""

from __future__ import annotations

from gateways.base import Account, Credential, Gateway

SHOP = """\
seller:
  {name: Loja Exemplo, email: dona@example.com, timezone: America/Sao_Paulo, document: null, address: null, support: "@suporte", terms_url: "https://example.com/termos"}
gateways:
  - {name: principal, kind: acme, priority: 1, weight: 3, active: true, credentials: {token: "segredo-1"}}
  - {name: reserva, kind: bolt, priority: 2, weight: 1, active: true, credentials: {app_id: "segredo-2"}}
offers:
  - {key: curso, name: Curso Completo, price: "49.90", delivers: [{kind: link, url: "https://example.com/curso"}]}
  - {key: vip, name: Grupo VIP 30 dias, price: "29.90", delivers: [{kind: group, chat_id: -1001, days: 30}]}
bots:
  - {key: vendas, channel: telegram, token: "123456:ABC", test: false, offers: [curso, vip], funnel: null, pix_minutes: 30}
links:
  - {slug: promo, bot: vendas, mode: redirect}
destinations:
  - {name: pixel, kind: meta, pixel_id: "1234567890", access_token: "segredo-3", test_event_code: null, bots: all}
"""


class Acme(Gateway):
    kind = "acme"
    label = "Acme Pagamentos"
    api_url = "https://acme.example.com"
    credentials = (
        Credential("token", "Token da API"),
        Credential("webhook_token", "Token do aviso", required=False, help="Opcional."),
    )
    minimum_cents = 100
    trouble: Exception | None = None
    asked: list[str]

    def __init__(self) -> None:
        self.asked = []

    def probe(self, account: Account) -> None:
        self.asked.append(account.credentials["token"])
        if self.trouble:
            raise self.trouble


class Bolt(Gateway):
    kind = "bolt"
    label = "Bolt"
    api_url = "https://bolt.example.com"
    credentials = (Credential("app_id", "AppID"),)
    minimum_cents = 50


class Sandbox(Gateway):
    kind = "sandbox"
    label = "Sandbox"
    api_url = ""
    test_only = True


PROVIDERS: tuple[type[Gateway], ...] = (Acme, Bolt, Sandbox)
