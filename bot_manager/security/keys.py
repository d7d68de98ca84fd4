"""The keys in KEYS_DIR: files of secrets, made on the first run, for this user alone."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from bot_manager.settings import BadSetting

KEYS = "encryption_keys"
RECHECK_S = 1.0


class KeyFile:
    """The keys in KEYS_DIR: one a line, the newest first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = self._stamp()
        self._looked = time.monotonic()

    def is_due(self) -> bool:
        """Whether it was last looked at a second ago."""
        return time.monotonic() - self._looked >= RECHECK_S

    def changed(self) -> list[bytes]:
        """The keys, if the file was changed since it was last looked at."""
        self._looked, stamp = time.monotonic(), self._stamp()
        if stamp in (self._seen, None):
            return []
        self._seen = stamp
        return [key_of(text) for text in self.read()]

    def read(self) -> list[str]:
        return self.path.read_text(encoding="ascii").split()

    def add(self) -> None:
        """A new key in front."""
        _replace(self.path, [secrets.token_urlsafe(48), *self.read()])

    def retire(self, old: Collection[str]) -> Path:
        """Takes these keys out; answers the file in which they are kept for the backups that were made with them."""
        retired = self.path.with_name("retired_keys")
        known = retired.read_text(encoding="ascii").split() if retired.exists() else []
        _replace(retired, [*(key for key in old if key not in known), *known])
        _replace(self.path, [key for key in self.read() if key not in old])
        return retired

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except OSError:  # away for a moment, or for good: what was read is still good
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def key_id(key: bytes) -> bytes:
    """What values sealed with this key begin with."""
    return hashlib.sha256(b"id:" + key).digest()[:4]


def key_of(text: str) -> bytes:
    """The 32 bytes that a line of the file, or of ENCRYPTION_KEYS, stands for."""
    return hashlib.sha256(text.encode()).digest()


def kept(directory: Path, name: str) -> str:
    """What the file of this name in KEYS_DIR says; made with a new secret when it isn't there. Raises BadSetting."""
    path = directory / name
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_once(path, secrets.token_urlsafe(48) + "\n")
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(
            "KEYS_DIR", f"{path} can't be read or made ({error}); give a directory of this user"
        ) from error


def _write_once(path: Path, text: str) -> None:
    # Written aside and linked into place, so that two processes starting together agree on one key.
    if path.exists():
        return
    aside = _written_aside(path, text)
    try:
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink()


def _written_aside(path: Path, text: str) -> Path:
    """A new file beside it, for its owner alone, and safe on the disk."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return aside


def _sync(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _replace(path: Path, keys: Sequence[str]) -> None:
    _written_aside(path, "".join(f"{key}\n" for key in keys)).replace(path)
    _sync(path.parent)
