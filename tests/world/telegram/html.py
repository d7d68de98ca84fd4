"""Telegram's HTML: which tags there are, what is an error in it, and how long a text is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from tests.world.telegram.answers import bad

_TAGS = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "tg-spoiler": "spoiler",
    "span": "spoiler",
    "a": "text_link",
    "code": "code",
    "pre": "pre",
    "blockquote": "blockquote",
    "tg-emoji": "custom_emoji",
}
_TAG = re.compile(r"""<(/?)([^\s>]*)((?:[^>"']|"[^"]*"|'[^']*')*)>""")
_ATTRIBUTE = re.compile(r"""\s+([^\s=>]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s>"']+))?""")
_REFERENCE = re.compile(r"&(?:#(\d+)|#x([0-9a-fA-F]+)|(lt|gt|amp|quot));?")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}

Entity = dict[str, Any]


def units(text: str) -> int:
    """The length of a text as Telegram counts it: in UTF-16 units."""
    return len(text.encode("utf-16-le")) // 2


@dataclass
class _Open:
    tag: str
    offset: int
    more: Entity


@dataclass
class _Reader:
    source: str
    text: str = ""
    entities: list[Entity] = field(default_factory=list)
    stack: list[_Open] = field(default_factory=list)

    def run(self) -> None:
        at = 0
        while at < len(self.source):
            at = self._step(at)
        if self.stack:
            raise _wrong(f'Can\'t find end tag corresponding to start tag "{self.stack[-1].tag}"')

    def _step(self, at: int) -> int:
        if self.source[at] == "<":
            return self._tag(at)
        if self.source[at] == "&" and (found := _REFERENCE.match(self.source, at)):
            self.text += _character(found)
            return found.end()
        self.text += self.source[at]
        return at + 1

    def _tag(self, at: int) -> int:
        offset = len(self.source[:at].encode())
        found = _TAG.match(self.source, at)
        if found is None:
            kind = "end" if self.source.startswith("</", at) else "start"
            raise _wrong(f"Unclosed {kind} tag at byte offset {offset}")
        is_end, name, rest = found[1], found[2].lower(), found[3]
        if is_end:
            self._close(name, offset)
        else:
            self._open(name, rest, offset)
        return found.end()

    def _open(self, name: str, rest: str, offset: int) -> None:
        if name not in _TAGS:
            raise _wrong(f'Unsupported start tag "{name}" at byte offset {offset}')
        attributes = _attributes(name, rest, offset)
        if name == "span" and attributes.get("class") != "tg-spoiler":
            raise _wrong(f'Tag "span" must have class "tg-spoiler" at byte offset {offset}')
        self.stack.append(_Open(name, units(self.text), _more(name, attributes)))

    def _close(self, name: str, offset: int) -> None:
        if not self.stack:
            raise _wrong(f"Unexpected end tag at byte offset {offset}")
        opened = self.stack.pop()
        if name and name != opened.tag:
            raise _wrong(f'Unmatched end tag at byte offset {offset}, expected "</{opened.tag}>", found "</{name}>"')
        length = units(self.text) - opened.offset
        if length and not (opened.tag == "a" and not opened.more):
            self.entities.append({"type": _TAGS[opened.tag], "offset": opened.offset, "length": length, **opened.more})


def parse_html(source: str) -> tuple[str, list[Entity]]:
    """The text without tags, and its entities. Raises the refusal "can't parse entities"."""
    reader = _Reader(source)
    reader.run()
    return reader.text, sorted(reader.entities, key=lambda entity: (entity["offset"], -entity["length"]))


def trimmed(text: str, entities: list[Entity]) -> tuple[str, list[Entity]]:
    """Without the blanks around it, which Telegram drops; entities moved along."""
    lead = units(text) - units(text.lstrip())
    clean = text.strip()
    kept = []
    for entity in entities:
        start = max(entity["offset"] - lead, 0)
        end = min(entity["offset"] + entity["length"] - lead, units(clean))
        if end > start:
            kept.append({**entity, "offset": start, "length": end - start})
    return clean, kept


def _attributes(name: str, rest: str, offset: int) -> dict[str, str]:
    found = list(_ATTRIBUTE.finditer(rest))
    bare = [match[1] for match in found if match[2] is None]
    if "".join(match[0] for match in found).rstrip() != rest.rstrip() or [
        word for word in bare if word != "expandable"
    ]:
        raise _wrong(f'Expected equal sign in declaration of an attribute of the tag "{name}" at byte offset {offset}')
    return {match[1].lower(): (match[2] or "").strip("\"'") for match in found}


def _more(name: str, attributes: dict[str, str]) -> Entity:
    if name == "a" and attributes.get("href"):
        return {"url": _REFERENCE.sub(_character, attributes["href"])}
    if name == "tg-emoji":
        return {"custom_emoji_id": attributes.get("emoji-id", "")}
    if name == "code" and attributes.get("class", "").startswith("language-"):
        return {"language": attributes["class"].removeprefix("language-")}
    return {}


def _character(found: re.Match[str]) -> str:
    if found[3]:
        return _NAMED[found[3]]
    return chr(int(found[1]) if found[1] else int(found[2], 16))


def _wrong(text: str) -> Exception:
    return bad(f"can't parse entities: {text}")
