"""What a buyer answers when a gateway wants to know who pays: read strictly, never completed or guessed."""

from __future__ import annotations

import re

from gateways.base import PayerField
from tracking import normalize

ORDER = (PayerField.NAME, PayerField.EMAIL, PayerField.PHONE, PayerField.DOCUMENT)  # in which they are asked for
_LONGEST_NAME = 100
_SHORTEST_NATIONAL = 12  # digits: 55, the area, the number
_PUNCTUATION = str.maketrans("", "", " .-/")
_CPF = re.compile(r"[0-9]{11}")
_CNPJ = re.compile(r"[0-9A-Z]{12}[0-9]{2}")
_Weights = tuple[tuple[int, ...], ...]
_CPF_WEIGHTS: _Weights = ((10, 9, 8, 7, 6, 5, 4, 3, 2), (11, 10, 9, 8, 7, 6, 5, 4, 3, 2))
_CNPJ_WEIGHTS: _Weights = ((5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2), (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2))


def read(field: PayerField, words: str) -> str | None:
    """The answer as gateways want it; None when it is no such thing."""
    match field:
        case PayerField.NAME:
            return _name(words)
        case PayerField.EMAIL:
            return _email(words)
        case PayerField.PHONE:
            return _phone(words)
        case PayerField.DOCUMENT:
            return document(words)


def document(words: str) -> str | None:
    """A CPF or a CNPJ without punctuation, when its check digits are right. CNPJs have letters since July 2026."""
    bare = words.strip().upper().translate(_PUNCTUATION)
    if _CPF.fullmatch(bare):
        weights = _CPF_WEIGHTS
    elif _CNPJ.fullmatch(bare):
        weights = _CNPJ_WEIGHTS
    else:
        return None
    right = len(set(bare)) > 1 and all(_check_digit(bare, row) == bare[len(row)] for row in weights)
    return bare if right else None


def _check_digit(bare: str, weights: tuple[int, ...]) -> str:
    """A letter counts as its ASCII code less 48, as the Receita Federal defines it."""
    rest = sum((ord(one) - 48) * weight for one, weight in zip(bare, weights, strict=False)) % 11
    return str(0 if rest < 2 else 11 - rest)


def _name(words: str) -> str | None:
    """A first and a last name at least, since banks refuse less."""
    name = " ".join(words.split())
    parts = name.split(" ")
    plain = all(part.replace("'", "").replace("-", "").replace(".", "").isalpha() for part in parts)
    return name if len(parts) > 1 and plain and len(name) <= _LONGEST_NAME else None


def _email(words: str) -> str | None:
    found = normalize.email(words)
    return found if found and "@" in found else None  # what is hashed already is an address to nobody


def _phone(words: str) -> str | None:
    """With an area code, or with a country's where a plus says that it is one."""
    found = [one for one in normalize.phone(words) if one.isdigit()]
    national = words.strip()[:1] != "+"
    return None if not found or (national and len(found[0]) < _SHORTEST_NATIONAL) else f"+{found[0]}"
