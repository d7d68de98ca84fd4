"""Style sheets, scripts and icons: held in memory, packed once, under a prefix that changes when any of them does.

So a browser may keep them for ever, and files may name each other by relative paths. Small enough (half a megabyte)
that no package and no proxy is needed to serve them well.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flask import Flask, Response, abort, request
from markupsafe import Markup

STATIC = Path(__file__).resolve().parents[1] / "static"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",  # packed already
}


@dataclass(frozen=True, slots=True)
class Asset:
    """packed: the body in gzip, where that makes it smaller."""

    type: str
    body: bytes
    packed: bytes | None


def set_up(app: Flask) -> None:
    app.add_url_rule("/static/<version>/<path:path>", "asset", serve)
    app.jinja_env.globals.update(asset=asset, icon=icon)
    _version()


def serve(version: str, path: str) -> Response:
    found = _assets().get(path) or abort(404)
    packed = found.packed if request.accept_encodings.quality("gzip") else None
    answer = Response(packed or found.body, content_type=found.type)
    answer.headers["Vary"] = "Accept-Encoding"
    # A page of another version may ask while an update rolls out; its file must not be kept under that name.
    answer.headers["Cache-Control"] = "public, max-age=31536000, immutable" if version == _version() else "no-cache"
    if packed:
        answer.headers["Content-Encoding"] = "gzip"
    return answer


def asset(path: str) -> str:
    """The address of a file below web/static. Raises LookupError for one that is not there."""
    if path not in _assets():
        raise LookupError(f"web/static has no {path}")
    return f"/static/{_version()}/{path}"


def icon(name: str) -> Markup:
    """A drawing of the sprite, in the colour of the text around it. Raises LookupError for one that is not in it."""
    if name not in _icons():
        raise LookupError(f"no icon {name!r}: add it in tools/vendor.py")
    address = f"{asset('vendor/icons.svg')}#{name}"
    return Markup('<svg class="p-icon" aria-hidden="true"><use href="{}"></use></svg>').format(address)


@cache
def _assets() -> dict[str, Asset]:
    files = (path for path in sorted(STATIC.rglob("*")) if path.is_file())
    return {path.relative_to(STATIC).as_posix(): _read(path) for path in files}


def _read(path: Path) -> Asset:
    body, kind = path.read_bytes(), _TYPES[path.suffix]
    packed = None if path.suffix == ".woff2" else gzip.compress(body, 9, mtime=0)
    return Asset(kind, body, packed)


@cache
def _version() -> str:
    digest = hashlib.sha256()
    for path, found in _assets().items():
        digest.update(path.encode() + found.body)
    return digest.hexdigest()[:12]


@cache
def _icons() -> frozenset[str]:
    return frozenset(re.findall(r'<symbol id="([^"]+)"', _assets()["vendor/icons.svg"].body.decode()))
