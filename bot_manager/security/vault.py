"""Secrets and personal data at rest: AES-256-GCM by field, versioned keys, kept apart from the data.

A sealed value is `key id (4 bytes) · nonce (12) · ciphertext`. What it is for (`"bot.token"`) and whose it is (the
seller's id) are authenticated with it, so that a value copied to another column or another seller does not open.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bot_manager.security.keys import KEYS, KeyFile, kept, key_id, key_of
from bot_manager.settings import Settings


class CannotOpen(ValueError):
    """A sealed value does not open: it was changed, moved, or its key is gone."""


class Vault:
    """keys: the newest first; it seals, all of them open. root: what other keys are derived from.

    file: where the keys come from. A running process reads it anew within a second of a change before it
    seals, and at once when a value's key is unknown, so that keys are rotated while everything runs.
    """

    def __init__(self, keys: Sequence[bytes], root: bytes, file: KeyFile | None = None) -> None:
        self._ring = _Ring.of(keys)
        self._root = root
        self._file = file
        self._reading = Lock()

    @property
    def newest(self) -> bytes:
        """The id of the key that seals: what sealed values begin with."""
        self._refresh()
        return self._ring.newest

    def knows(self, key_id: bytes) -> bool:
        """Whether values that begin with this id can be opened."""
        return self._cipher(key_id) is not None

    def refresh(self) -> None:
        """Reads the keys anew if they were changed, without waiting for its time."""
        self._refresh(at_once=True)

    def seal(self, value: str, purpose: str, seller_id: int) -> bytes:
        self._refresh()
        ring, nonce = self._ring, secrets.token_bytes(12)
        sealed = ring.ciphers[ring.newest].encrypt(nonce, value.encode(), _bound(purpose, seller_id))
        return ring.newest + nonce + sealed

    def open(self, sealed: bytes, purpose: str, seller_id: int) -> str:
        """Raises CannotOpen."""
        cipher = self._cipher(sealed[:4])
        if cipher is None:
            raise CannotOpen(f"{purpose}: sealed with a key that is not in ENCRYPTION_KEYS")
        try:
            return cipher.decrypt(sealed[4:16], sealed[16:], _bound(purpose, seller_id)).decode()
        except InvalidTag as error:
            raise CannotOpen(f"{purpose}: the sealed value was changed or moved") from error

    def _cipher(self, key_id: bytes) -> AESGCM | None:
        if key_id not in self._ring.ciphers:
            self._refresh(at_once=True)
        return self._ring.ciphers.get(key_id)

    def _refresh(self, *, at_once: bool = False) -> None:
        if self._file is None or not (at_once or self._file.is_due()):
            return
        with self._reading:  # who finds a key unknown while another thread is reading waits for what that one learns
            if keys := self._file.changed():
                self._ring = _Ring.of(keys)

    def seal_json(self, value: Any, purpose: str, seller_id: int) -> bytes:
        return self.seal(json.dumps(value, ensure_ascii=False, separators=(",", ":")), purpose, seller_id)

    def open_json(self, sealed: bytes, purpose: str, seller_id: int) -> Any:
        """Raises CannotOpen."""
        return json.loads(self.open(sealed, purpose, seller_id))

    def derived(self, purpose: str) -> bytes:
        """A 32-byte key for one purpose, always the same for the same SECRET_KEY."""
        return hmac.digest(self._root, purpose.encode(), "sha256")


@dataclass(frozen=True, slots=True)
class _Ring:
    """The keys at one moment, changed as a whole."""

    newest: bytes
    ciphers: dict[bytes, AESGCM]

    @classmethod
    def of(cls, keys: Sequence[bytes]) -> Self:
        return cls(key_id(keys[0]), {key_id(key): AESGCM(key) for key in keys})


def fingerprint(secret: str) -> str:
    """How an unguessable secret is stored where only comparing is needed: SHA-256, hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_secret() -> str:
    """43 characters of A-Za-z0-9_- that can't be guessed."""
    return secrets.token_urlsafe(32)


def open_vault(settings: Settings) -> Vault:
    """The vault of this installation; makes its keys in KEYS_DIR on the first run. Raises BadSetting."""
    root = settings.secret_key or kept(settings.keys_dir, "secret_key").strip()
    if settings.encryption_keys:
        return Vault([key_of(text) for text in settings.encryption_keys], root.encode())
    kept(settings.keys_dir, KEYS)
    file = KeyFile(settings.keys_dir / KEYS)
    return Vault([key_of(text) for text in file.read()], root.encode(), file)


def _bound(purpose: str, seller_id: int) -> bytes:
    return f"{purpose}:{seller_id}".encode()
