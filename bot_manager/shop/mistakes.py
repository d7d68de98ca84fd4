"""What is wrong in a shop file, told so that whoever wrote it can mend it: where, what, and what would do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """line: counted from 1. key: the place in the file, like `bots[vendas].token`. The texts are Portuguese."""

    line: int
    key: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"linha {self.line}: {self.key}: {self.problem}\n    {self.fix}"


class BadShop(ValueError):
    """The file is refused whole; `mistakes` has all that is wrong with it, in the file's order."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(set(mistakes)))
        super().__init__("\n".join(map(str, self.mistakes)))
