"""What a JSON Schema error means, in words for the seller: the problem, and what would do instead."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jsonschema import ValidationError

from bot_manager.shop.lines import Place

_TYPES = {
    "string": "um texto",
    "integer": "um número inteiro",
    "boolean": "true ou false",
    "array": "uma lista",
    "object": "um bloco de chaves",
    "null": "null",
}


@dataclass(frozen=True, slots=True)
class Complaint:
    place: Place
    problem: str
    fix: str


def explain(error: ValidationError) -> Iterator[Complaint]:
    """One complaint, or one for each key that is missing or unknown."""
    place: Place = tuple(error.absolute_path)
    tell = _TOLD.get(str(error.validator))
    if tell is None:
        yield Complaint(place, "a chave não cabe aqui", "Apague-a, ou corrija o kind desta entrada.")
        return
    yield from tell(place, error)


def _missing(place: Place, error: ValidationError) -> Iterator[Complaint]:
    for key in error.validator_value:
        if key not in error.instance:
            what = error.schema.get("properties", {}).get(key, {}).get("description", "")
            yield Complaint((*place, key), "falta esta chave", f"Acrescente {key}. {what}".strip())


def _unknown(place: Place, error: ValidationError) -> Iterator[Complaint]:
    known = list(error.schema["properties"])
    for key in error.instance:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            fix = f"Você quis dizer {near[0]}?" if near else f"Apague-a; as que existem são {', '.join(known)}."
            yield Complaint((*place, key), "a chave não existe no formato", fix if known else "Apague-a.")


def _type(place: Place, error: ValidationError) -> Iterator[Complaint]:
    wanted = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
    names = " ou ".join(_TYPES[kind] for kind in wanted)
    quotable = "string" in wanted and isinstance(error.instance, bool | int | float)
    fix = f"Escreva entre aspas: {_quoted(error)}" if quotable else _described(error)
    yield Complaint(place, f"esperava {names}", fix)


def _quoted(error: ValidationError) -> str:
    price = isinstance(error.instance, float) and error.path and error.path[-1] == "price"
    return f'"{error.instance:.2f}"' if price else f'"{json.dumps(error.instance)}"'


def _choice(place: Place, error: ValidationError) -> Iterator[Complaint]:
    known = [str(choice) for choice in error.validator_value]
    near = difflib.get_close_matches(str(error.instance), known, n=1)
    yield Complaint(
        place, f"{_shown(error)} não é uma das opções", f"Use {near[0] if near else ' ou '.join(known) or 'outra'}."
    )


def _shape(place: Place, error: ValidationError) -> Iterator[Complaint]:
    yield Complaint(place, f"{_shown(error)} não tem a forma certa", _described(error))


def _range(place: Place, error: ValidationError) -> Iterator[Complaint]:
    least, most = error.schema.get("minimum"), error.schema.get("maximum")
    limits = f"de {least} a {most}" if None not in (least, most) else f"até {most}"
    yield Complaint(place, f"{error.instance} está fora do limite", f"Use um número {limits}. {_described(error)}")


def _empty(place: Place, error: ValidationError) -> Iterator[Complaint]:
    least = "Ponha ao menos um item." if error.validator == "minItems" else "Escreva um valor."
    yield Complaint(place, "está vazio", f"{least} {_described(error)}")


def _long(place: Place, error: ValidationError) -> Iterator[Complaint]:
    yield Complaint(place, f"passa de {error.validator_value} caracteres", "Encurte o texto.")


def _repeated(place: Place, _error: ValidationError) -> Iterator[Complaint]:
    yield Complaint(place, "há itens repetidos", "Deixe cada um só uma vez.")


def _neither(place: Place, error: ValidationError) -> Iterator[Complaint]:
    yield Complaint(place, "não é uma das formas aceitas", _described(error))


def _described(error: ValidationError) -> str:
    return str(error.schema.get("description") or "Corrija o valor.")


def _shown(error: ValidationError) -> str:
    """The value, unless it may be a secret."""
    secret = (error.path and error.path[-1] in ("token", "access_token")) or "credentials" in error.path
    return "o valor" if secret else f"{json.dumps(error.instance, ensure_ascii=False)[:60]}"


_TOLD: dict[str, Callable[[Place, ValidationError], Iterator[Complaint]]] = {
    "required": _missing,
    "additionalProperties": _unknown,
    "type": _type,
    "enum": _choice,
    "pattern": _shape,
    "minimum": _range,
    "maximum": _range,
    "minLength": _empty,
    "minItems": _empty,
    "maxLength": _long,
    "uniqueItems": _repeated,
    "anyOf": _neither,
}
