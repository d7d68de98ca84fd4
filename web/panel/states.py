"""The states of things in the seller's words, each with its tone: ok, warn, bad, info or quiet.

Tone is never alone on the screen, the word is always there. A state not in a table is shown by its own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bot_manager.jobs.names import Name
from bot_manager.security.events import Kind
from models import BotState, ConversionState, DeliveryState, PaymentStatus, ReceiptState, RetryState


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
    ReceiptState.PARKED: Word("Aviso do banco sem venda conhecida ou sem confirmação, em espera", "warn"),
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

SECURITY: Mapping[str, Word] = {
    Kind.WRONG_WEBHOOK_SECRET: Word("Aviso com segredo errado", "warn"),
    Kind.WRONG_TELEGRAM_SECRET: Word("Telegram sem o segredo do bot", "warn"),
    Kind.FORGED_NOTICE: Word("Aviso falso", "bad"),
    Kind.NOTICE_MISMATCH: Word("Aviso que não confere com a venda", "bad"),
    Kind.GUESSED_TOO_OFTEN: Word("Senhas ou convites chutados", "warn"),
}

# What came to a stop: a job by its name, anything else by the state of its row.
LETTER: Mapping[str, Word] = {
    Name.CONVERSE: Word("Conversa não andou", "bad"),
    Name.SEND: Word("Mensagens não saíram", "bad"),
    Name.ANSWER_TAP: Word("Toque sem resposta", "quiet"),
    Name.CHARGE: Word("PIX não gerado", "bad"),
    Name.LOOK: Word("Consulta de PIX parada", "warn"),
    Name.RECONCILE: Word("Conferência depois de uma parada não terminou", "bad"),
    Name.CONFIRM: Word("Pagamento não conferido", "bad"),
    Name.REMATCH: Word("Aviso não reencontrado", "warn"),
    Name.BOOK: Word("Venda não lançada nas contas", "bad"),
    Name.DELIVER: Word("Entrega parada", "bad"),
    Name.ADMIT: Word("Pedido de entrada parado", "warn"),
    Name.END_ACCESS: Word("Acesso vencido não foi tirado", "bad"),
    Name.TAKE_ACCESS_BACK: Word("Acesso devolvido não foi tirado", "bad"),
    Name.REPORT_PURCHASE: Word("Compra não preparada para o anúncio", "warn"),
    Name.SEND_CONVERSION: Word("Compra não contada ao anúncio", "warn"),
    Name.CONNECT_BOT: Word("Bot não conectou", "warn"),
    Name.DISCONNECT_BOT: Word("Bot antigo não desconectou", "warn"),
    Name.FETCH_PUBLIC_KEYS: Word("Chaves do gateway não vieram", "warn"),
    Name.RETRY_BATCH: Word("Lote parado", "warn"),
    "delivery_failed": Word("Entrega que o canal recusou", "bad"),
    "purchase_refused": Word("Compra que o anúncio recusou", "warn"),
    "update_failed": Word("Mensagem que falhou", "bad"),
    "update_unreadable": Word("Mensagem ilegível", "warn"),
    ReceiptState.UNREADABLE: Word("Aviso ilegível", "warn"),
    ReceiptState.MISMATCH: Word("Aviso não confere com a venda", "bad"),
    ReceiptState.PARKED: Word("Aviso sem venda conhecida ou sem confirmação", "warn"),
    ReceiptState.FORGED: Word("Aviso sem prova", "bad"),
}

RETRY: Mapping[str, str] = {
    RetryState.WAITING: "Na espera",
    RetryState.DONE: "Tentadas de novo",
    RetryState.MOOT: "Não precisavam mais",
    RetryState.STUCK: "Ainda ilegíveis",
    RetryState.STOPPED: "Paradas",
}


def word(table: Mapping[str, Word], state: str) -> Word:
    return table.get(state, Word(state.replace("_", " ").capitalize()))
