"""Woovi's signatures: its own RSA key over the raw body, and the older HMAC with a webhook's secret."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa


class Keys:
    """The company's keys; the last one signs. During a change both are listed, and either may have signed."""

    def __init__(self, size: int = 2048) -> None:
        self._size = size
        self._all = [_first_key(size)]

    def sign(self, content: bytes) -> str:
        """x-webhook-signature: base64 of RSA-SHA256, PKCS #1 v1.5."""
        return b64encode(self._all[-1].sign(content, padding.PKCS1v15(), hashes.SHA256())).decode()

    def rotate(self) -> None:
        """A new key signs from here on; the old one is still listed until `forget_old`."""
        self._all.append(rsa.generate_private_key(65537, self._size))

    def forget_old(self) -> None:
        del self._all[:-1]

    def listed(self) -> list[dict[str, Any]]:
        return [_listed(key, is_current=key is self._all[-1]) for key in self._all]


def legacy_signature(secret: str, content: bytes) -> str:
    """X-OpenPix-Signature: base64 of HMAC-SHA1."""
    return b64encode(hmac.new(secret.encode(), content, hashlib.sha1).digest()).decode()


@cache
def _first_key(size: int) -> rsa.RSAPrivateKey:
    # Making a key is slow and its time varies; all fakes of a process share their first one.
    return rsa.generate_private_key(65537, size)


def _listed(key: rsa.RSAPrivateKey, *, is_current: bool) -> dict[str, Any]:
    public = key.public_key()
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    der = public.public_bytes(serialization.Encoding.DER, info)
    pem = public.public_bytes(serialization.Encoding.PEM, info).decode()
    return {"key_identifier": hashlib.sha256(der).hexdigest(), "is_current": is_current, "key": pem}
