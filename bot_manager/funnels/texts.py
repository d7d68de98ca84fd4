"""What customers read, in Brazilian Portuguese. Names that sellers chose are escaped: the texts are HTML."""

from __future__ import annotations

from html import escape

COPY = "Copiar código PIX"
I_PAID = "Já paguei"
TRY_AGAIN = "Tentar de novo"
NEVER_MIND = "Voltar às ofertas"
TERMS = "Termos"
PRIVACY = "Privacidade"
NOTHING_TO_SELL = "Este bot ainda não tem nada à venda. Volte mais tarde."
OPEN = "Abrir"
ENTER = "Entrar no grupo"
OFFERS = "Ver ofertas"
TEST = "<b>TESTE</b> · nenhum valor é cobrado"


def money(cents: int) -> str:
    """1234567 → "R$ 12.345,67", with a no-break space."""
    whole, rest = divmod(cents, 100)
    return f"R$\u00a0{whole:,}".replace(",", ".") + f",{rest:02d}"


def offer_label(name: str, price_cents: int) -> str:
    return f"{name} · {money(price_cents)}"


def filled(text: str, **values: str) -> str:
    """The text with its {placeholders} filled in; only the names given are placeholders."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", escape(value))
    return text.replace(", !", "!").replace(" !", "!")


def pix(offer_name: str, amount_cents: int, code: str, minutes: int, notice: str) -> str:
    lines = [
        f"<b>{escape(offer_name)}</b> · <b>{money(amount_cents)}</b>",
        f"Pague com PIX: toque no código para copiar, ou leia a imagem. Vale por {minutes} minutos.",
        f"<code>{escape(code)}</code>",
        "A confirmação chega aqui, em segundos.",
    ]
    return "\n\n".join([*lines, f"<i>{escape(notice)}</i>"] if notice else lines)


def pix_failed(offer_name: str) -> str:
    return (
        f"Não consegui gerar o PIX de <b>{escape(offer_name)}</b> agora. Nada foi cobrado. Tente de novo em instantes."
    )


_ASKED = {
    "name": "Qual é o seu <b>nome completo</b>? O banco pede para gerar o PIX.",
    "email": "Qual é o seu <b>e-mail</b>? O banco pede para gerar o PIX.",
    "phone": "Qual é o seu <b>telefone com DDD</b>? O banco pede para gerar o PIX.",
    "document": "Qual é o seu <b>CPF ou CNPJ</b>? O banco pede para gerar o PIX. Ele fica guardado de forma cifrada "
    "e não vai para anúncios.",
}
_MISUNDERSTOOD = {
    "name": "Preciso do nome e do sobrenome, como no documento. Exemplo: <i>Maria da Silva</i>",
    "email": "Esse e-mail não parece certo. Exemplo: <i>maria@exemplo.com.br</i>",
    "phone": "Esse telefone não parece certo. Mande com DDD, assim: <i>11 91234-5678</i>",
    "document": "Esse número não confere. Mande o CPF (11 dígitos) ou o CNPJ (14), como está no documento.",
}


def asked(field: str) -> str:
    """A question about who pays."""
    return _ASKED[field]


def misunderstood(field: str) -> str:
    """The same question again, after an answer that is no such thing, with how it should look."""
    return _MISUNDERSTOOD[field]


def checked(status: str) -> str:
    return {
        "paid": "Pagamento confirmado! A entrega está nesta conversa.",
        "pending": "O banco ainda não confirmou o pagamento. Se você já pagou, espere alguns segundos: aviso aqui.",
        "expired": "Este código PIX venceu. Toque em /start para gerar outro. Se você pagou, o valor será reconhecido.",
        "too_soon": "Acabei de consultar o banco. Espere uns segundos antes de perguntar de novo.",
        "refunded": "Este pagamento foi devolvido.",
    }.get(
        status,
        "Não consegui consultar o banco agora. Se você já pagou, fique tranquilo: aviso aqui assim que confirmar.",
    )


def privacy(shop: str, url: str | None) -> str:
    where = f'\n\nPolítica completa: <a href="{escape(url)}">{escape(url)}</a>' if url else ""
    return (
        f"<b>Privacidade</b>\n\n{escape(shop)} usa os dados desta conversa (seu nome e usuário, o que você compra e o "
        "anúncio por onde chegou) para vender, entregar e medir anúncios. Nome, e-mail, telefone e CPF ou CNPJ só "
        "são pedidos quando o banco os exige para gerar o PIX, e servem só para isso. Às plataformas de anúncio, "
        f"identificadores só vão embaralhados. Para ver ou apagar seus dados, escreva ao suporte: /paysupport{where}"
    )


def support(shop: str, contact: str | None) -> str:
    where = f"Fale com <b>{escape(contact)}</b>." if contact else "Responda a esta conversa contando o que houve."
    return f"<b>Suporte de {escape(shop)}</b>\n\n{where} Tenha em mãos o nome do produto e o comprovante do PIX."


def delivered_link(offer_name: str, url: str) -> str:
    return f'Pagamento confirmado! Aqui está <b>{escape(offer_name)}</b>:\n\n<a href="{escape(url)}">{escape(url)}</a>'


def delivered_group(offer_name: str, days: int | None) -> str:
    how_long = f" Seu acesso vale por {days} dias." if days else ""
    return f"Pagamento confirmado! Entre em <b>{escape(offer_name)}</b> pelo botão; o convite é só seu.{how_long}"


def access_ended(offer_name: str, why: str) -> str:
    reason = "O pagamento foi devolvido" if why == "refunded" else "O prazo terminou"
    return f"{reason}, e seu acesso a <b>{escape(offer_name)}</b> foi encerrado. Para voltar, é só comprar de novo."


def delivered_test_group(offer_name: str) -> str:
    return f"Pagamento de teste confirmado. Em uma venda real, aqui vai o convite de <b>{escape(offer_name)}</b>."
