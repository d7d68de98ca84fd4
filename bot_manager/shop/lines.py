"""YAML with the line of everything in it.

Only what a set-up needs is taken: texts, whole numbers, true, false, null, lists, mappings, in one document. The types
are those of YAML 1.2, where `no` is a text; tags, anchors and aliases are refused: a file is what it looks like.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from bot_manager.shop.mistakes import BadShop, Mistake

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 100_000  # some three seconds of reading

Place = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_NAMING = ("key", "slug", "name")  # what tells an entry of a list from the others

# A piece of the parser's message → what to tell, and what would do.
_OPEN = "o arquivo acaba no meio de um valor", "Feche as aspas, o [ ou o { que ficou aberto."
_SYNTAX = (
    ("<stream end>", *_OPEN),
    ("end of stream", *_OPEN),
    ("'\\t'", "há um TAB onde só cabem espaços", "Troque o TAB por espaços."),
    ("mapping values are not allowed", "há um “:” fora de lugar", "Ponha o valor entre aspas ou corrija o recuo."),
    ("could not find expected ':'", "falta um “:” depois da chave", "Escreva “chave: valor”."),
    ("expected <block end>", "o recuo não bate com o das linhas de cima", "Alinhe esta linha com as suas irmãs."),
    ("expected ',' or", "uma lista […] ou um bloco {…} não foi fechado", "Ponha a vírgula ou o fecho que falta."),
    ("another document", "há mais de um documento", "Deixe um só vendedor por arquivo, sem “---” no meio."),
    ("cannot start any token", "há um caractere que não pode começar um valor", "Ponha o valor entre aspas."),
)
_SYNTAX_ELSE = "o YAML não pode ser lido a partir daqui", "Confira aspas, dois-pontos e recuo desta linha."


@dataclass(slots=True)
class Document:
    """value: plain Python values. lines: where each place of it stands; an entry stands where its key does."""

    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def line(self, place: Place) -> int:
        """The line of the place, or of what should have held it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def mistake(self, place: Place, problem: str, fix: str) -> None:
        self.mistakes.append(Mistake(self.line(place), self.name(place), problem, fix))

    def name(self, place: Place) -> str:
        """The place as people say it: `bots[vendas].token`; an entry without a name is counted from 1."""
        name, value = "", self.value
        for step in place:
            value = _step(value, step)
            name += f"[{_called(value, step)}]" if isinstance(step, int) else f".{step}"
        return name.lstrip(".") or "arquivo"


def parse(content: bytes) -> Document:
    """What the file says. Raises BadShop when it can't be read on; lesser mistakes are in the document."""
    if len(content) > MAX_BYTES:
        _refuse(1, f"é maior que {MAX_BYTES // 1000} KB", "Divida o arquivo ou retire o que não é da loja.")
    try:
        return _document(_text(content))
    except ReaderError as error:
        line = content.decode().count("\n", 0, error.position) + 1
        _refuse(line, "há um caractere de controle", "Apague o caractere invisível desta linha.")
    except yaml.MarkedYAMLError as error:
        told = _told(str(error.problem))
        # What is never closed is found at the end; where it was opened says more.
        mark = error.context_mark if told == _OPEN else error.problem_mark
        _refuse(min(mark.line + 1, len(content.splitlines())) if mark else 1, *told)


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        _refuse(line, "não está em UTF-8", "Salve o arquivo de novo com a codificação UTF-8.")


def _document(text: str) -> Document:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    except BadShop:
        raise
    except ValueError:  # an escape beyond Unicode, which PyYAML does not expect
        _refuse(loader.line + 1, "há um caractere que não existe", "Corrija o código depois da barra (\\).")
    if node is None:
        _refuse(1, "está vazio", "Comece pela seção seller: com name e email.")
    document = Document()
    reading = _Reading(document)
    document.value = reading.plain(node, ())
    for line, place, problem, fix in reading.found:
        document.mistakes.append(Mistake(line, document.name(place), problem, fix))
    return document


def _refuse(line: int, problem: str, fix: str) -> NoReturn:
    raise BadShop([Mistake(line, "arquivo", problem, fix)]) from None


def _told(problem: str) -> tuple[str, str]:
    return next(((what, fix) for piece, what, fix in _SYNTAX if piece in problem), _SYNTAX_ELSE)


def _step(value: Any, step: str | int) -> Any:
    try:
        return value[step]
    except (KeyError, IndexError, TypeError):
        return None


def _called(value: Any, index: int) -> str:
    names = [value.get(naming) for naming in _NAMING] if isinstance(value, dict) else []
    return next((name for name in names if isinstance(name, str)), str(index + 1))


class _Loader(yaml.SafeLoader):
    """Composes nodes, and stops at once at what could make a small file large or deep."""

    yaml_implicit_resolvers: dict[str, Any] = {}
    depth = 0
    values = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
            _refuse(line, "âncoras (&) e apelidos (*) não são aceitos", "Escreva o valor por extenso ou entre aspas.")
        if getattr(event, "tag", None):
            _refuse(line, "marcas de tipo (!) não são aceitas", "Apague a marca ou ponha o valor entre aspas.")
        self.depth, self.values = self.depth + 1, self.values + 1
        if self.depth > MAX_DEPTH:
            _refuse(line, f"há mais de {MAX_DEPTH} níveis um dentro do outro", "Confira os [ e { desta linha.")
        if self.values > MAX_VALUES:
            _refuse(line, f"há mais de {MAX_VALUES} valores", "Divida o arquivo ou retire o que não é da loja.")
        node: Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _kind, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,17})\Z", list("-+0123456789")),
    ("float", r"[-+]?[0-9]{1,18}\.[0-9]{0,18}\Z", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(_pattern), _first)


class _Reading:
    """Turns nodes into plain values. found: mistakes that could not be named before all was read."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.found: list[tuple[int, Place, str, str]] = []

    def plain(self, node: Node, place: Place) -> Any:
        self._document.lines.setdefault(place, _line(node))
        if isinstance(node, MappingNode):
            return self._mapping(node, place)
        if isinstance(node, SequenceNode):
            return [self.plain(item, (*place, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, place)

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if not isinstance(key_node, ScalarNode) or key_node.tag != _TAG + "str" or _UNWRITABLE.search(key):
                self._note(key_node, place, "há uma chave que não é um texto", "Escreva uma das chaves do formato.")
            elif key in mapping:
                self._note(key_node, (*place, key), "a chave aparece duas vezes", "Deixe uma só.")
            else:
                self._document.lines[*place, key] = _line(key_node)
                mapping[key] = self.plain(value_node, (*place, key))
        return mapping

    def _scalar(self, node: Node, place: Place) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text)
            case "float":
                return float(text)
        if _UNWRITABLE.search(text):
            self._note(node, place, "o texto tem um caractere de controle", "Apague o caractere invisível.")
        return text

    def _note(self, node: Node, place: Place, problem: str, fix: str) -> None:
        self.found.append((_line(node), place, problem, fix))


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1
