"""Error pages: what happened, whether the money is safe, what to do; with the number that finds it in the logs.

Only for who asked for a page: gateways, Telegram and the API get the bare answer of whoever serves them.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from flask import Flask, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from werkzeug.exceptions import HTTPException, ServiceUnavailable, TooManyRequests

from bot_manager import log

logger = logging.getLogger(__name__)


class Text(NamedTuple):
    title: str
    text: str


TEXTS = {
    400: Text("Não entendemos este pedido", "Volte, confira o que foi preenchido e tente de novo."),
    403: Text("Você não tem acesso a esta parte", "Peça a quem é dono da loja para fazer isso ou liberar seu acesso."),
    404: Text("Não encontramos esta página", "O endereço pode ter mudado, ou ela pertence a outra loja."),
    405: Text("Isto não se abre por aqui", "Volte para o início e siga pelo menu."),
    413: Text("O envio é grande demais", "Mande um arquivo ou um texto menor."),
    415: Text("Não entendemos este envio", "Recarregue a página e preencha de novo. Nada foi alterado."),
    429: Text("Muitas tentativas seguidas", "Espere um pouco e tente de novo. Nada mudou na sua conta."),
    500: Text(
        "Algo falhou do nosso lado",
        "Nenhum pagamento se perde: o que o banco avisou está guardado. Tente de novo em instantes.",
    ),
    503: Text("Estamos voltando", "O sistema está reiniciando. Nenhum pagamento se perde: tente de novo em instantes."),
}
STALE = Text("Esta página ficou aberta por muito tempo", "Recarregue a página e faça de novo. Nada foi alterado.")


def set_up(app: Flask) -> None:
    app.register_error_handler(HTTPException, show)
    for broken in (OperationalError, InterfaceError, NoConnection):
        app.register_error_handler(broken, _no_database)


def show(error: HTTPException) -> ResponseReturnValue:
    code = error.code or 500
    if code < 400 or "text/html" not in request.accept_mimetypes.values():
        return error
    text = STALE if isinstance(error, CSRFError) else TEXTS.get(code, TEXTS[500 if code >= 500 else 400])
    values = {"code": code, "title": text.title, "text": _worded(text, error), "trace_id": log.trace_id.get()}
    if "HX-Request" in request.headers:
        return (
            render_template("panel/_error.html", **values),
            code,
            _kept(error) | {"HX-Retarget": "#notice", "HX-Reswap": "innerHTML"},
        )
    return render_template("panel/error.html", **values), code, _kept(error)


def _worded(text: Text, error: HTTPException) -> str:
    if isinstance(error, TooManyRequests) and isinstance(error.retry_after, int):
        return text.text.replace("um pouco", f"{error.retry_after} segundos" if error.retry_after > 1 else "um segundo")
    return text.text


def _kept(error: HTTPException) -> dict[str, str]:
    """What the answer says to machines, whatever page it carries."""
    said = {"Retry-After": "5"} if error.code == 503 else {}
    return said | {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}


def _no_database(error: Exception) -> ResponseReturnValue:
    logger.error("the database does not answer", extra={"cause": str(getattr(error, "orig", error))[:300]})
    return show(ServiceUnavailable(retry_after=5))
