"""The JSON Schema (2020-12) of the shop file, which editors and `apply` check it with.

    python -m bot_manager.shop.schema > docs/shop.schema.json

What a schema can't say (names that must exist, prices against minimums, time zones) is in `bot_manager.shop.rules`. A
pattern's description doubles as what to do about a value that does not fit it, so the descriptions are Portuguese.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import gateways
from gateways.base import Gateway
from tracking import destinations

Schema = dict[str, Any]

CHANNELS = ("telegram",)
LINK_MODES = ("redirect", "page")

# `$` alone also matches before a last line break, in Python.
_END = "$(?!\\n)"


def schema() -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Loja",
        "description": "O que um vendedor vende, por onde recebe e onde anuncia.",
        **_object(
            {
                "seller": _seller(),
                "gateways": _list(_gateway(), "Contas em gateways de PIX. O menor número de priority vem primeiro."),
                "offers": _list(_offer(), "O que se vende."),
                "bots": _list(_bot(), "Os bots que vendem."),
                "links": _list(_link(), "Links para anúncios, que levam a um bot."),
                "destinations": _list(_destination(), "Para onde as compras são informadas."),
            },
            "seller",
        ),
    }


def _seller() -> Schema:
    return _object(
        {
            "name": _name("O nome da loja"),
            "email": _text("O e-mail de quem vende. É ele que identifica a loja.", 254),
            "timezone": _text("Fuso horário, como America/Sao_Paulo.", 64) | {"default": "America/Sao_Paulo"},
            "document": _or_null(_text("CPF ou CNPJ.", 40)),
            "address": _or_null(_text("Endereço.", 300)),
            "support": _or_null(_text("Onde o cliente pede ajuda: @usuario, e-mail ou link.", 200)),
            "terms_url": _or_null(_text("Endereço https dos termos de venda.", 2000)),
        },
        "name",
        "email",
    )


def _gateway() -> Schema:
    kinds = gateways.all_gateways()
    properties = {
        "name": _name("O nome da conta, que a identifica"),
        "kind": {"enum": sorted(kinds), "description": "O provedor."},
        "priority": _number("A ordem: o menor número é tentado primeiro.", 1, 1000, 1),
        "weight": _number("A parte desta conta entre as de mesma priority.", 1, 1000, 1),
        "active": _flag("Se recebe cobranças novas.", default=True),
        "fee_fixed": _or_null(
            _pattern(r"[0-9]{1,4}\.[0-9]{2}", 'A parte fixa da tarifa de cada PIX, entre aspas: "0.35".')
        ),
        "fee_percent": _or_null(
            _pattern(r"[0-9]{1,2}\.[0-9]{2}", 'A parte em porcento da tarifa de cada PIX, entre aspas: "0.99".')
        ),
        "credentials": {"type": ["object", "null"], "description": "Omitidas, valem as já guardadas."},
    }
    fields = {kind: {"credentials": _credentials(gateway)} for kind, gateway in sorted(kinds.items())}
    return _object(properties, "name", "kind") | _by_kind(fields)


def _credentials(gateway: Gateway) -> Schema:
    """None is required: what is omitted keeps what is stored."""
    properties = {
        credential.name: {
            "type": ["string", "null"],
            "minLength": 1 if credential.required else 0,
            "maxLength": 20_000,
            "description": " ".join(part for part in (f"{credential.label}.", credential.help) if part),
        }
        for credential in gateway.credentials
    }
    return _object(properties) | {"type": ["object", "null"]}


def _offer() -> Schema:
    properties = {
        "key": _key("a oferta"),
        "name": _name("O nome que o cliente vê no botão"),
        "price": _pattern("[0-9]{1,7}\\.[0-9]{2}", 'Preço em reais entre aspas, com dois decimais: "49.90".'),
        "delivers": _list(_delivered(), "O que se entrega depois de pago.") | {"type": "array", "minItems": 1},
    }
    return _object(properties, *properties)


def _delivered() -> Schema:
    properties = {
        "kind": {"enum": ["link", "group"], "description": "O que se entrega: um link, ou a entrada num grupo."},
        "url": _text("O endereço https que o cliente recebe.", 2000),
        "chat_id": {
            "type": "integer",
            "maximum": -1,
            "description": "O número do grupo, negativo, como -1001234567890.",
        },
        "days": _or_null(_number("Por quantos dias; null é para sempre.", 1, 3650)),
    }
    nothing: Schema = {"not": {}}
    only_link, only_group = {"chat_id": nothing, "days": nothing}, {"url": nothing}
    return _object(properties, "kind") | _by_kind({"link": only_link, "group": only_group}, link="url", group="chat_id")


def _bot() -> Schema:
    return _object(
        {
            "key": _key("o bot"),
            "channel": {"enum": list(CHANNELS), "default": "telegram", "description": "Onde o bot conversa."},
            "token": _or_null(
                _pattern(
                    "[0-9]{1,20}:[A-Za-z0-9_-]{1,100}", "O token que o @BotFather deu, como 123456:ABC, inteiro e só."
                )
            ),
            "test": _flag("Bot de teste: nada é cobrado e nenhum acesso é dado.", default=False),
            "offers": _list(_key("a oferta"), "As chaves das ofertas, na ordem em que aparecem.")
            | {"uniqueItems": True},
            "funnel": _funnel(),
            "pix_minutes": _number("Por quantos minutos o código PIX vale.", 1, 1440, 30),
        },
        "key",
    )


def _funnel() -> Schema:
    step = {"type": "object", "properties": {"text": _text("O que o bot diz.", 3500)}, "required": ["text"]}
    properties = {
        "start": _text("A etapa do começo, uma das de steps.", 64),
        "steps": {"type": "object", "additionalProperties": step, "description": "As etapas, por nome."},
    }
    return {
        "type": ["object", "null"],
        "properties": properties,
        "required": ["start", "steps"],
        "description": "null é a conversa padrão.",
    }


def _link() -> Schema:
    slug = _pattern("[a-z0-9-]{1,64}", "O fim do endereço: de 1 a 64 letras minúsculas, números ou hífens.")
    mode = {"enum": list(LINK_MODES), "default": "redirect", "description": "Levar direto, ou mostrar uma página."}
    return _object({"slug": slug, "bot": _key("o bot"), "mode": mode}, "slug", "bot")


def _destination() -> Schema:
    return _object(
        {
            "name": _name("O nome do destino, que o identifica"),
            "kind": {"enum": sorted(destinations.all_destinations()), "description": "A plataforma."},
            "pixel_id": _pattern("[0-9]{5,20}", 'O número do pixel, entre aspas: "1234567890".'),
            "access_token": _or_null(
                _pattern("[!-~]{1,1000}", "O token inteiro, sem espaços. Omitido, vale o guardado.")
            ),
            "test_event_code": _or_null(_text("Código da tela de teste de eventos.", 64)),
            "bots": {
                "anyOf": [{"const": "all"}, {"type": "array", "items": _key("o bot")}],
                "default": "all",
                "description": "all, ou as chaves dos bots cujas vendas são informadas.",
            },
        },
        "name",
        "kind",
        "pixel_id",
    )


# Words ------------------------------------------------------------------------------------------------------------


def _object(properties: Schema, *required: str) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _list(items: Schema, description: str) -> Schema:
    return {"type": ["array", "null"], "items": items, "description": description}


def _text(description: str, longest: int) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": longest, "description": description}


def _pattern(pattern: str, description: str) -> Schema:
    return {"type": "string", "pattern": f"^{pattern}{_END}", "description": description}


def _name(what: str) -> Schema:
    """Up to 64 characters: it stands on buttons and in addresses of the panel."""
    pattern = "[^\\s](?:[^\\n\\r]{0,62}[^\\s])?"
    return _pattern(pattern, f"{what}: até 64 caracteres, em uma linha, sem espaço nas pontas.")


def _key(what: str) -> Schema:
    return _pattern("[a-z0-9_-]{1,40}", f"A chave que identifica {what}: de 1 a 40 letras minúsculas, números, _ ou -.")


def _number(description: str, least: int, most: int, default: int | None = None) -> Schema:
    number = {"type": "integer", "minimum": least, "maximum": most, "description": description}
    return number if default is None else number | {"default": default}


def _flag(description: str, *, default: bool) -> Schema:
    return {"type": "boolean", "default": default, "description": description}


def _or_null(what: Schema) -> Schema:
    return what | {"type": [what["type"], "null"]}


def _by_kind(fields: dict[str, Schema], **required: str) -> Schema:
    branches = [
        {
            "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
            "then": {"properties": properties, "required": [required[kind]] if kind in required else []},
        }
        for kind, properties in fields.items()
    ]
    return {"allOf": branches} if branches else {}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schema(), ensure_ascii=False, indent=2) + "\n")
