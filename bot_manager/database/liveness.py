"""Whether the server is still at the other end of a database connection that has rested in a pool.

To ask it would be a round trip before each transaction. A look at the socket costs nothing, and tells of a server that
was restarted or killed; of one that vanished without a word only the next statement can tell, asked before or not.
"""

from __future__ import annotations

import select

import psycopg


def hung_up(connection: psycopg.Connection | psycopg.AsyncConnection) -> bool:
    """True when there is something to read though nothing was asked: the server's last words, or its end."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
