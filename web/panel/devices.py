"""A browser and where it is, in words its owner recognises."""

from __future__ import annotations

# The first that fits: each also names those below it.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("FxiOS", "Firefox"),
    ("Firefox", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "no iPhone"),
    ("iPad", "no iPad"),
    ("Android", "no Android"),
    ("Windows", "no Windows"),
    ("Macintosh", "no Mac"),
    ("CrOS", "no Chromebook"),
    ("Linux", "no Linux"),
)


def device(user_agent: str) -> str:
    """ "Chrome no Android"; "Navegador desconhecido" for one that says nothing known."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "Navegador desconhecido")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    return f"{browser} {system}".strip()


def around(network: str) -> str:
    """203.0.113.0/24 → "203.0.113.•••"; of IPv6, its beginning."""
    address = network.partition("/")[0]
    return f"{address.rstrip(':')}:…" if ":" in address else f"{address.rpartition('.')[0]}.•••"
