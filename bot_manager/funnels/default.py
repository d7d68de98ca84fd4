"""The funnel of a bot that has none of its own: welcome with the offers, PIX, delivery."""

from __future__ import annotations

from typing import Any

FUNNEL: dict[str, Any] = {
    "version": 1,
    "start": "welcome",
    "steps": {
        "welcome": {
            "kind": "menu",
            "text": "Olá, {first_name}! Bem-vindo à <b>{shop}</b>.\n\nEscolha o que você quer:",
        },
    },
}
