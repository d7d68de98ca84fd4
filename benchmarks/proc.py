"""CPU and memory of trees of processes, as the kernel counts them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process and all that descend from it, as they are now."""
    children = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        if fields := _stat(path):
            children[int(fields[1])].append(int(path.parent.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def cpu_ms(root: int) -> float:
    """What the tree has used since it began, with what its ended processes had."""
    stats = (_stat(Path(f"/proc/{pid}/stat")) for pid in tree(root))
    return sum(sum(map(int, fields[11:15])) for fields in stats if fields) * _TICK_MS


def pss_mb(root: int, kind: str = "Pss") -> float:
    """The tree's memory, what is shared with others counted in part; kind: `Pss_Anon` for what no file backs."""
    return sum(_pss_kb(pid, kind) for pid in tree(root)) / 1024


def files(root: int) -> int:
    """The tree's open files, sockets and pipes among them."""
    return sum(_files(pid) for pid in tree(root))


@contextmanager
def metered(**roots: int) -> Iterator[dict[str, float]]:
    """CPU-ms that each tree uses during the block; filled in when it ends."""
    before = {name: cpu_ms(pid) for name, pid in roots.items()}
    used: dict[str, float] = {}
    yield used
    used.update({name: cpu_ms(pid) - before[name] for name, pid in roots.items()})


def _stat(path: Path) -> list[str]:
    """The fields after the program's name: state, parent, …; 11 to 14 are user and system time, own and children's."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:  # it has ended meanwhile
        return []


def _files(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


def _pss_kb(pid: int, kind: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")), 0)
