"""What a benchmark found, as a small table or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Goal:
    """A figure that should stay under `limit`; one that does not is said, and fails nothing."""

    what: str
    value: float
    limit: float
    unit: str

    def __str__(self) -> str:
        verdict = "met" if self.value < self.limit else "missed"
        return f"{self.what}: {_shown(self.value)} {self.unit}, goal under {_shown(self.limit)}: {verdict}"


@dataclass(frozen=True)
class Report:
    """rows: all with the same keys, which are the columns' titles. notes: sentences below the table."""

    title: str
    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        goals = [asdict(goal) | {"met": goal.value < goal.limit} for goal in self.goals]
        return {"title": self.title, "rows": self.rows, "notes": self.notes, "goals": goals}

    def as_text(self) -> str:
        below = [*self.notes, *map(str, self.goals)]
        return "\n".join([self.title, "", *_table(self.rows), "", *(f"  {line}" for line in below), ""])


def as_json(machine: str, reports: dict[str, Report]) -> str:
    found = {name: report.as_json() for name, report in reports.items()}
    return json.dumps({"machine": machine, "benchmarks": found}, indent=2)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    cells = [list(rows[0]), *([_shown(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  " + "  ".join(map(_justified, line, widths, range(len(line)))).rstrip() for line in cells]


def _justified(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
