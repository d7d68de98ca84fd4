"""What Meta and others hash, written the one way that matches: lower case, trimmed, NFC.

Each function takes what a person, a gateway or a browser gave and returns the text to hash; None, or an empty list,
for what is no such thing. Where the readers of these hashes disagree it returns every form, the best first: a field of
several hashes matches if one does. What is a SHA-256 already passes as it is.

Source: developers.facebook.com/docs/marketing-api/conversions-api/parameters/customer-information-parameters,
and Meta's own two libraries, which know nothing of Brazil.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from datetime import date
from urllib.parse import urlsplit

_HASHED = re.compile(r"[0-9a-f]{64}")
_EMAIL = re.compile(r"[^\s@,;<>()]+@[^\s@,;<>()]+\.[^\s@,;<>().]{2,}")
_PHONE = re.compile(r"\+?[0-9\s().\-–—/]+")
_DATE = re.compile(r"([0-9]{1,4})[-–—/. ]([0-9]{1,2})[-–—/. ]([0-9]{1,4})")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _pairs(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


_AREA = re.compile("1[1-9]|2[12478]|3[1-578]|4[1-9]|5[1345]|6[1-9]|7[134579]|8[1-9]|9[1-9]")  # in use, Anatel

_PLACEHOLDERS = _words("null none undefined nan naoinformado naoinformada seminformacao semnome")

_STATES = _pairs(
    "acre ac alagoas al amapa ap amazonas am bahia ba ceara ce distritofederal df espiritosanto es goias go maranhao ma"
    " matogrosso mt matogrossodosul ms minasgerais mg para pa paraiba pb parana pr pernambuco pe piaui pi"
    " riodejaneiro rj riograndedonorte rn riograndedosul rs rondonia ro roraima rr santacatarina sc saopaulo sp"
    " sergipe se tocantins to"
)

_COUNTRY_NAMES = _pairs(
    "brasil br brazil br bra br portugal pt prt pt angola ao mocambique mz estadosunidos us eua us usa us"
    " unitedstates us argentina ar paraguai py uruguai uy espanha es italia it franca fr alemanha de japao jp"
    " reinounido gb inglaterra gb uk gb"
)

# ISO 3166-1 alpha-2.
_COUNTRIES = _words(
    "ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bl bm bn bo bq br bs bt bv bw by bz ca"
    " cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg eh er es et fi fj fk fm fo fr ga"
    " gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp"
    " ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mf mg mh mk ml mm mn mo mp mq mr ms"
    " mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs"
    " ru rw sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw"
    " tz ua ug um us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw"
)

_GENDERS = _pairs("m m masculino m homem m male m man m f f feminino f mulher f female f woman f")


def hash_value(text: str) -> str:
    """SHA-256 in lower-case hex of a normalised text; a SHA-256 stays itself."""
    return text if _HASHED.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()


def email(value: str | None) -> str | None:
    """`dona@exemplo.com.br`."""
    text = _plain(value)
    if _HASHED.fullmatch(text):
        return text
    return text if len(text) <= 254 and text.isprintable() and _EMAIL.fullmatch(text) else None


def phone(value: str | None) -> list[str]:
    """Digits with country code, `5511987654321`; a number without one is taken as Brazilian where it can be.

    A mobile of the old eight digits comes with its nine-digit form too: either may be what the person once gave.
    """
    text = _plain(value)
    if _HASHED.fullmatch(text):
        return [text]
    if not _PHONE.fullmatch(text):
        return []
    digits = re.sub("[^0-9]", "", text)
    if text.startswith("+") or digits.startswith("00"):
        return _international(digits.lstrip("0"))
    return _national(digits) or _international(digits.lstrip("0"))


def name(value: str | None) -> str | None:
    """A first or last name: letters, accents and digits only, `dávila`."""
    text = _plain(value)
    if _HASHED.fullmatch(text):
        return text
    text = _letters(text)
    return text if any(map(str.isalpha, text)) and _unaccented(text) not in _PLACEHOLDERS else None


def external_id(value: str | None) -> str | None:
    """Our own stable id of a customer."""
    # What stood between two accents may have kept them apart.
    return unicodedata.normalize("NFC", re.sub(r"\s", "", _plain(value))) or None


def country(value: str | None) -> str | None:
    """ISO 3166-1 alpha-2, from a code or a common name: `br`."""
    text = _plain(value)
    if _HASHED.fullmatch(text):
        return text
    text = _unaccented(_letters(text))
    code = _COUNTRY_NAMES.get(text, text)
    return code if code in _COUNTRIES else None


def state(value: str | None) -> str | None:
    """The two letters of a Brazilian state, from them or its name; of another, its name without spaces."""
    text = _plain(value)
    if _HASHED.fullmatch(text):
        return text
    text = _letters(text)
    return _STATES.get(_unaccented(text), text) or None


def city(value: str | None) -> list[str]:
    """`sãopaulo`, `saopaulo`, and `sopaulo` as Meta's browser library makes of it."""
    text = _plain(value)
    if _HASHED.fullmatch(text):
        return [text]
    text = _letters(text)
    return _distinct(text, _unaccented(text), re.sub("[^a-z0-9]", "", text))


def postcode(value: str | None) -> list[str]:
    """A CEP whole, `01310100`, and cut at its dash as Meta's libraries do; five digits of a US ZIP+4."""
    text = _plain(value)
    if _HASHED.fullmatch(text):
        return [text]
    text = re.sub(r"[\s\-–—.]", "", text)
    if not re.fullmatch("[0-9a-z]{3,12}", text):
        return []
    if re.fullmatch("[0-9]{9}", text):
        return [text[:5]]
    return [text, text[:5]] if re.fullmatch("[0-9]{8}", text) else [text]


def birth_date(value: str | None) -> str | None:
    """YYYYMMDD; of `05/03/1995` the day is the first, as Brazilians write it."""
    text = _plain(value)
    if _HASHED.fullmatch(text):
        return text
    if re.fullmatch("[0-9]{8}", text):
        return _date(text[:4], text[4:6], text[6:])
    match = _DATE.search(text)
    if not match:
        return None
    first, second, third = match.groups()
    if len(first) == 4:
        return _date(first, second, third)
    return _date(third, second, first) or _date(third, first, second)


def gender(value: str | None) -> str | None:
    """`m` or `f`."""
    text = _plain(value)
    return text if _HASHED.fullmatch(text) else _GENDERS.get(text)


def page_url(value: str | None) -> str | None:
    """A page's address without its query, fragment or user: those may tell who somebody is."""
    try:
        parts = urlsplit((value or "").strip())
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.netloc.isprintable():
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path or '/'}"


def _international(digits: str) -> list[str]:
    if digits.startswith("55"):
        return _brazilian(digits[2:].lstrip("0"))
    return [digits] if 8 <= len(digits) <= 15 and len(set(digits[-8:])) > 1 else []


def _national(digits: str) -> list[str]:
    """Without a country code: with or without the trunk 0 and the carrier's two digits behind it."""
    if digits.startswith("0"):
        digits = digits.lstrip("0")
        return _brazilian(digits if len(digits) <= 11 else digits[2:])
    found = _brazilian(digits)
    # "55" may be the area of Santa Maria or a country code with something missing.
    return [digits, *found] if found and len(digits) == 10 and digits.startswith("55") else found


def _brazilian(digits: str) -> list[str]:
    area, number = digits[:2], digits[2:]
    if not _AREA.fullmatch(area) or len(set(number)) == 1:
        return []
    if len(number) == 9 and number[0] == "9":
        return [f"55{digits}"]
    if len(number) == 8 and number[0] in "6789":
        return [f"55{digits}", f"55{area}9{number}"]
    return [f"55{digits}"] if len(number) == 8 and number[0] in "2345" else []


def _plain(value: str | None) -> str:
    """Trimmed, lower case, NFC: an accent typed as two characters is the same accent. Half characters fall out."""
    text = (value or "").encode("utf-8", "ignore").decode()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower()).strip()


def _letters(text: str) -> str:
    kept = "".join(c for c in text if unicodedata.category(c)[0] in "LMN" and c != "\ufe0f")
    return unicodedata.normalize("NFC", kept)  # what stood between two accents may have kept them apart


def _unaccented(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def _distinct(*texts: str) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text]


def _date(year: str, month: str, day: str) -> str | None:
    try:
        found = date(int(year), int(month), int(day))
    except ValueError:
        return None
    return f"{found:%Y%m%d}" if 1900 <= found.year <= 2100 else None
