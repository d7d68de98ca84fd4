"""Every regular expression of the code against hostile text: four times the text is about four times the work.

Work is this process's own CPU time, and what is asserted is its growth, so that a slow machine changes nothing.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.test_architecture import ALL

USES = {"compile", "fullmatch", "match", "search", "sub", "split", "findall", "finditer"}
LONG = 10_000  # characters
QUICK_S = 0.01  # what is done in less needs no second look: growing with the square takes five times that
TIMES = 4  # as long a text; far enough apart that a busy neighbour's noise does not blur what follows
GROWTH = 8.0  # four times the text: linear is 4 times the work, quadratic 16

# What makes matchers go back: long runs of one class that end in the wrong character, alone and repeated.
PIECES = [
    "a", "0", " ", "-", ".", "@", "/", "a@", "a.", "0.", "0-", "a-", "1:", "aa ", "0 (", "+5", "é", "A=", "&t=",
    "/bot1:", "/webhook/a/", "Bearer a", "postgres://a:", "fb.1.", "a@b.", "a@b.c.", "000.", "\t\n", "'", '"',
    '"estimated_time_to_regain_access": ', "a, ", "%4",
]  # fmt: skip
ENDS = ["", "!", "\n", "@", "x@", "\u0000"]


def patterns() -> Iterator[tuple[str, str, int, set[str]]]:
    """Where each stands, its text, its flags, and how it is used: what is only held to the whole text is no search."""
    for name, file in sorted(ALL.items()):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _is_re(node.func) and (text := _text(node.args[0])):
                yield f"{name}:{node.lineno}", text, _flags(node), _uses(tree, node)


def _uses(tree: ast.AST, made: ast.Call) -> set[str]:
    if isinstance(made.func, ast.Attribute) and made.func.attr != "compile":
        return {made.func.attr}
    holders = {target.id for node in ast.walk(tree) if isinstance(node, ast.Assign) and node.value is made
               for target in node.targets if isinstance(target, ast.Name)}  # fmt: skip
    used = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
    return {node.attr for node in used if node.value.id in holders} or {"sub"}  # type: ignore[attr-defined]


def _is_re(func: ast.AST) -> bool:
    of_re = isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id == "re"
    return of_re and isinstance(func, ast.Attribute) and func.attr in USES


def _text(node: ast.AST) -> str | None:
    found = node.value if isinstance(node, ast.Constant) else None
    return found.decode("latin-1") if isinstance(found, bytes) else found if isinstance(found, str) else None


def _flags(node: ast.Call) -> int:
    named = [part.attr for arg in [*node.args[1:], *(k.value for k in node.keywords)] for part in ast.walk(arg)
             if isinstance(part, ast.Attribute) and isinstance(getattr(re, part.attr, None), re.RegexFlag)]  # fmt: skip
    return sum(getattr(re, flag) for flag in set(named))


FOUND = {f"{where} {text[:40]}": (text, flags, uses) for where, text, flags, uses in patterns()}


@pytest.mark.parametrize(("text", "flags", "uses"), FOUND.values(), ids=FOUND.keys())
def test_no_text_makes_a_regular_expression_slow(text: str, flags: int, uses: set[str]) -> None:
    pattern = re.compile(text, flags)
    ways = [pattern.fullmatch] if uses == {"fullmatch"} else [pattern.sub]
    for piece in PIECES:
        for end in ENDS:
            for way in ways:
                assert _growth(way, piece, end) is None, f"{piece!r} again and again, then {end!r}"


def _growth(way: Any, piece: str, end: str) -> float | None:
    """How much more work a longer text is, where it is more than linear. Others only ever add to a work measured here,
    so the least of a few is the one to believe."""
    if _work(way, piece, end, LONG) < QUICK_S:
        return None
    short, long = (min(_work(way, piece, end, length) for _ in range(5)) for length in (LONG // TIMES, LONG))
    growth = long / max(short, 1e-9)
    return growth if growth > GROWTH else None


def _work(way: Any, piece: str, end: str, length: int) -> float:
    text = (piece * (length // len(piece) + 1))[:length] + end
    started = time.process_time()
    way(text) if way.__name__ == "fullmatch" else way("", text)
    return time.process_time() - started


def test_a_regular_expression_that_is_slow_would_be_found() -> None:
    assert _growth(re.compile(r"a+@").sub, "a", "!")


def test_all_of_them_were_found() -> None:
    """Each use of `re` with a text of its own, and each pattern of the logs' masks among them."""
    assert len(FOUND) > 40
    assert any(key.startswith("bot_manager.log") for key in FOUND)
