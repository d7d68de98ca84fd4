"""The states of things in the seller's words, each with its tone: ok, warn, bad, info or quiet.

Tone is never alone on the screen, the word is always there. A state not in a table is shown by its own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from models import BotState, ConversionState, DeliveryState, PaymentStatus, ReceiptState


class Word(NamedTuple):
    text: str
    tone: str = "quiet"


PAYMENT: Mapping[str, Word] = {
    PaymentStatus.NEW: Word("Gerando PIX", "info"),
    PaymentStatus.PENDING: Word("Pendente", "warn"),
    PaymentStatus.PAID: Word("Pago", "ok"),
    PaymentStatus.REFUNDED: Word("Devolvido", "quiet"),
    PaymentStatus.FAILED: Word("PIX não gerado", "bad"),
    PaymentStatus.EXPIRED: Word("Não pago", "quiet"),
    PaymentStatus.CANCELLED: Word("Cancelado", "quiet"),
}

BOT: Mapping[str, Word] = {
    BotState.CONNECTING: Word("Conectando", "info"),
    BotState.ACTIVE: Word("Respondendo", "ok"),
    BotState.UNCONNECTED: Word("Só no painel", "info"),
    BotState.REFUSED: Word("Parado", "bad"),
    BotState.UNREACHABLE: Word("Sem contato", "warn"),
    BotState.ARCHIVED: Word("Arquivado", "quiet"),
}

# What is going on, and who acts next.
BOT_SENTENCES: Mapping[str, str] = {
    BotState.CONNECTING: "Estamos ligando o bot ao Telegram. Leva alguns segundos, não precisa fazer nada.",
    BotState.ACTIVE: "Tudo certo: o Telegram entrega as conversas.",
    BotState.UNCONNECTED: "Sem token do Telegram: conversa só aqui no painel, na conversa de teste.",
    BotState.REFUSED: "O Telegram recusou o token. Gere outro no @BotFather e troque o token deste bot.",
    BotState.UNREACHABLE: "O Telegram não respondeu à última checagem. Tentamos de novo sozinhos.",
    BotState.ARCHIVED: "Fora de uso.",
}

RECEIPT: Mapping[str, Word] = {
    ReceiptState.RECEIVED: Word("Aviso do banco recebido", "info"),
    ReceiptState.CONFIRMING: Word("Aviso do banco recebido, conferindo com ele", "info"),
    ReceiptState.SETTLED: Word("Aviso do banco aceito", "ok"),
    ReceiptState.DUPLICATE: Word("Aviso do banco repetido, sem efeito", "quiet"),
    ReceiptState.IGNORED: Word("Aviso do banco sem efeito", "quiet"),
    ReceiptState.PARKED: Word("Aviso do banco sem venda conhecida, em espera", "warn"),
    ReceiptState.UNREADABLE: Word("Aviso do banco ilegível", "warn"),
    ReceiptState.MISMATCH: Word("Aviso do banco com valor diferente, não aceito", "bad"),
    ReceiptState.FORGED: Word("Aviso falso recusado", "bad"),
}

DELIVERY: Mapping[str, Word] = {
    DeliveryState.WAITING: Word("Entrega em preparo", "info"),
    DeliveryState.QUEUED: Word("Entrega na fila da conversa", "info"),
    DeliveryState.DELIVERED: Word("Entregue", "ok"),
    DeliveryState.BLOCKED: Word("Entrega espera: o cliente bloqueou o bot", "warn"),
    DeliveryState.SKIPPED: Word("Sem acesso, por ser teste", "quiet"),
    DeliveryState.FAILED: Word("Entrega falhou", "bad"),
}

CONVERSION: Mapping[str, Word] = {
    ConversionState.WAITING: Word("Compra na fila do anúncio", "info"),
    ConversionState.SENDING: Word("Contando a compra ao anúncio", "info"),
    ConversionState.DELIVERED: Word("Compra contada ao anúncio", "ok"),
    ConversionState.SKIPPED: Word("Compra não contada ao anúncio", "quiet"),
    ConversionState.PAUSED: Word("Medição do anúncio parada", "bad"),
    ConversionState.EXPIRED: Word("Tarde demais para contar ao anúncio", "quiet"),
    ConversionState.DEAD: Word("O anúncio recusou a compra", "bad"),
}


def word(table: Mapping[str, Word], state: str) -> Word:
    return table.get(state, Word(state.replace("_", " ").capitalize()))
