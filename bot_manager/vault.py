"""Secrets and personal data at rest: AES-256-GCM by field, versioned keys, kept apart from the data.

A sealed value is `key id (4 bytes) · nonce (12) · ciphertext`. What it is for (`"bot.token"`) and whose it is (the
seller's id) are authenticated with it, so that a value copied to another column or another seller does not open.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bot_manager.settings import BadSetting, Settings


class CannotOpen(ValueError):
    """A sealed value does not open: it was changed, moved, or its key is gone."""


class Vault:
    """keys: the newest first; it seals, all of them open. root: what other keys are derived from."""

    def __init__(self, keys: Sequence[bytes], root: bytes) -> None:
        self._newest = _key_id(keys[0])
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._root = root

    def seal(self, value: str, purpose: str, seller_id: int) -> bytes:
        nonce = secrets.token_bytes(12)
        sealed = self._ciphers[self._newest].encrypt(nonce, value.encode(), _bound(purpose, seller_id))
        return self._newest + nonce + sealed

    def open(self, sealed: bytes, purpose: str, seller_id: int) -> str:
        """Raises CannotOpen."""
        cipher = self._ciphers.get(sealed[:4])
        if cipher is None:
            raise CannotOpen(f"{purpose}: sealed with a key that is not in ENCRYPTION_KEYS")
        try:
            return cipher.decrypt(sealed[4:16], sealed[16:], _bound(purpose, seller_id)).decode()
        except InvalidTag as error:
            raise CannotOpen(f"{purpose}: the sealed value was changed or moved") from error

    def seal_json(self, value: Any, purpose: str, seller_id: int) -> bytes:
        return self.seal(json.dumps(value, ensure_ascii=False, separators=(",", ":")), purpose, seller_id)

    def open_json(self, sealed: bytes, purpose: str, seller_id: int) -> Any:
        """Raises CannotOpen."""
        return json.loads(self.open(sealed, purpose, seller_id))

    def derived(self, purpose: str) -> bytes:
        """A 32-byte key for one purpose, always the same for the same SECRET_KEY."""
        return hmac.digest(self._root, purpose.encode(), "sha256")


def fingerprint(secret: str) -> str:
    """How an unguessable secret is stored where only comparing is needed: SHA-256, hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_secret() -> str:
    """43 characters of A-Za-z0-9_- that can't be guessed."""
    return secrets.token_urlsafe(32)


def open_vault(settings: Settings) -> Vault:
    """The vault of this installation; makes its keys in KEYS_DIR on the first run. Raises BadSetting."""
    keys = settings.encryption_keys or tuple(_kept(settings.keys_dir, "encryption_keys").split())
    root = settings.secret_key or _kept(settings.keys_dir, "secret_key").strip()
    return Vault([_key(text) for text in keys], root.encode())


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"id:" + key).digest()[:4]


def _bound(purpose: str, seller_id: int) -> bytes:
    return f"{purpose}:{seller_id}".encode()


def _kept(directory: Path, name: str) -> str:
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
    aside = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
