"""How many files and sockets a process may have open."""

from __future__ import annotations

import resource

MOST = 65536


def raise_limit() -> None:
    """Slow clients and polled bots cost one descriptor each; the usual soft limit of 1024 is reached too soon."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft not in (resource.RLIM_INFINITY, wanted):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
