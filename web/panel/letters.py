"""Fila parada: what came to a stop, and trying it again, one by one or a set behind a preview, a cap and a stop."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from flask import Blueprint, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_security import current_user

from bot_manager.network import strict
from bot_manager.ops import dead_letters
from bot_manager.ops.dead_letters import CAP, HOLD_S, Letter, Progress, Wanted
from models import RetryState, db
from web.panel.lookup import BIGGEST_ID
from web.panel.operator import Chosen, chosen
from web.panel.states import LETTER, RETRY, Word, word

room = Blueprint("letters", __name__, url_prefix="/fila")

PAGE = 50
SHOWN_BEFORE = 10  # of a set that is about to be tried again
NOUNS = {"job": "trabalho", "update": "mensagem", "receipt": "aviso", "delivery": "entrega", "purchase": "compra"}
# What became of the one that was tried.
SAID = {
    RetryState.DONE: Word("Tentando de novo. Se falhar outra vez, volta para esta lista.", "ok"),
    RetryState.MOOT: Word("Não havia mais nada a fazer: já andou por outro caminho.", "info"),
    RetryState.STUCK: Word("Continua ilegível. Nada foi alterado.", "warn"),
    "gone": Word("Alguém já cuidou disso.", "info"),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Row(NamedTuple):
    letter: Letter
    word: Word
    noun: str


class Group(NamedTuple):
    what: str
    kind: str
    word: Word
    letters: int


@room.get("")
def index() -> ResponseReturnValue:
    narrowed = _chosen()
    letters = dead_letters.newest(_wanted(narrowed), PAGE + 1, _read_cursor(request.args.get("antes", "")))
    groups = _groups(narrowed)
    what, kind = narrowed.word("que"), narrowed.word("tipo")
    return render_template(
        "operator/letters.html",
        chosen=narrowed,
        what=what,
        kind=kind,
        groups=groups,
        total=sum(one.letters for one in groups),
        shown=sum(one.letters for one in groups if (what, kind) in ((None, None), (one.what, one.kind))),
        letters=_rows(letters[:PAGE]),
        more=_cursor(letters[PAGE - 1]) if len(letters) > PAGE else None,
        said=SAID.get(request.args.get("feito", "")),
    )


@room.post("/tentar")
def again() -> ResponseReturnValue:
    what, row_id = request.form.get("que", ""), strict.number(request.form.get("id", ""))
    letter = dead_letters.one(what, row_id) if what in NOUNS and row_id is not None else None
    state = dead_letters.try_again(letter, current_user.email) if letter else None
    db.session.commit()
    return redirect(url_for(".index", feito=state or "gone", **_chosen().query), 303)


@room.get("/lote")
def preview() -> ResponseReturnValue:
    return _preview(_chosen())


@room.post("/lote")
def begin() -> ResponseReturnValue:
    """Begins if the number that was written is how many there are now, so that nobody confirms another set."""
    narrowed = _chosen()
    letters = dead_letters.oldest(_wanted(narrowed), CAP)
    if not letters or strict.number(request.form.get("quantas", "").strip()) != len(letters):
        return _preview(narrowed, wrong=True), 422
    batch_id = dead_letters.begin_batch(_wanted(narrowed), current_user.email)
    db.session.commit()
    return redirect(url_for(".batch", batch_id=batch_id), 303)


@room.get("/lote/<int:batch_id>")
def batch(batch_id: int) -> ResponseReturnValue:
    progress = _progress(batch_id)
    page = "_batch.html" if "HX-Request" in request.headers else "batch.html"
    ended = progress.batch.size - progress.waiting
    parts = [(RETRY[state], progress.by_state.get(state, 0)) for state in RETRY]
    return render_template(
        f"operator/{page}", progress=progress, ended=ended, sentence=_sentence(progress), parts=parts
    )


@room.post("/lote/<int:batch_id>/parar")
def stop(batch_id: int) -> ResponseReturnValue:
    _progress(batch_id)
    dead_letters.stop(batch_id)
    db.session.commit()
    return redirect(url_for(".batch", batch_id=batch_id), 303)


def _preview(narrowed: Chosen, *, wrong: bool = False) -> str:
    letters = dead_letters.oldest(_wanted(narrowed), CAP)
    return render_template(
        "operator/preview.html",
        chosen=narrowed,
        size=len(letters),
        total=sum(dead_letters.counts(_wanted(narrowed)).values()),
        sellers=len({letter.seller_id for letter in letters}),
        first=_rows(letters[:SHOWN_BEFORE]),
        cap=CAP,
        hold=round(HOLD_S),
        wrong=wrong,
    )


def _progress(batch_id: int) -> Progress:
    return (dead_letters.progress(batch_id) if batch_id <= BIGGEST_ID else None) or abort(404)


def _sentence(progress: Progress) -> str:
    if progress.batch.stopped_at:
        return "Parado. O resto ficou na fila."
    return "Em andamento." if progress.waiting else "Pronto."


def _chosen() -> Chosen:
    return chosen("que", "tipo")


def _wanted(narrowed: Chosen, *, everything: bool = False) -> Wanted:
    what, kind = (None, None) if everything else (narrowed.word("que"), narrowed.word("tipo"))
    return Wanted(what, kind, narrowed.seller, narrowed.since, narrowed.until)


def _groups(narrowed: Chosen) -> list[Group]:
    found = dead_letters.counts(_wanted(narrowed, everything=True))
    return [Group(what, kind, word(LETTER, kind), count) for (what, kind), count in found.items()]


def _rows(letters: Sequence[Letter]) -> list[Row]:
    return [Row(letter, word(LETTER, letter.kind), NOUNS[letter.what]) for letter in letters]


def _cursor(letter: Letter) -> str:
    return f"{(letter.at - _EPOCH) // timedelta(microseconds=1)}-{letter.what}-{letter.id}"


def _read_cursor(text: str) -> Letter | None:
    """Where the last page ended; None for the start, or for what is no cursor."""
    micros, _, rest = text.partition("-")
    what, _, number = rest.partition("-")
    at, row_id = strict.number(micros), strict.number(number)
    if at is None or row_id is None or what not in NOUNS or at >= 10**17:
        return None
    return Letter(what, row_id, 0, "", "", _EPOCH + timedelta(microseconds=at), "", "")
