"""The settings: read once from the environment, at the door, and frozen.

Nothing else in the project reads `os.environ`. Each setting may come from a file instead: `NAME_FILE` names it.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Self
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

TELEGRAM_API_URL = "https://api.telegram.org"
META_GRAPH_URL = "https://graph.facebook.com"
_LOG_FORMATS = ("json", "console")
_FORMATS = ("text", "json")
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class BadSetting(ValueError):
    """A setting has a value that can't be used; the message names it and says what would do."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name


@dataclass(frozen=True, slots=True)
class Settings:
    """database_url and database_owner_url are None when the embedded PostgreSQL is to be used.

    secret_key and encryption_keys are empty when they are to be read from (or made in) `keys_dir`.
    gateway_urls: {kind: base URL}, only for the kinds whose address the operator changed.
    """

    database_url: str | None = None
    database_owner_url: str | None = None
    public_url: str | None = None
    port: int = 8000
    secret_key: str = field(default="", repr=False)
    encryption_keys: tuple[str, ...] = field(default=(), repr=False)
    data_dir: Path = Path("var")
    keys_dir: Path = Path("keys")
    backups_kept: int = 7
    trusted_proxies: tuple[Network, ...] = ()
    format: str = "text"
    log_format: str = "json"
    log_level: str = "INFO"
    telegram_api_url: str = TELEGRAM_API_URL
    meta_graph_url: str = META_GRAPH_URL
    gateway_urls: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Raises BadSetting."""
        read = _Reader(os.environ if env is None else env)
        return cls(
            database_url=read.postgres("DATABASE_URL"),
            database_owner_url=read.postgres("DATABASE_OWNER_URL"),
            public_url=read.url("PUBLIC_URL"),
            port=read.port("PORT", 8000),
            secret_key=read.secret("SECRET_KEY"),
            encryption_keys=tuple(part for part in read.text("ENCRYPTION_KEYS").replace(",", " ").split()),
            data_dir=Path(read.text("DATA_DIR") or "var").absolute(),
            keys_dir=read.keys_dir(),
            backups_kept=read.count("BACKUPS_KEPT", 7),
            trusted_proxies=read.networks("TRUSTED_PROXIES"),
            format=read.choice("FORMAT", _FORMATS, "text"),
            log_format=read.choice("LOG_FORMAT", _LOG_FORMATS, "json"),
            log_level=read.choice("LOG_LEVEL", _LOG_LEVELS, "INFO"),
            telegram_api_url=read.url("TELEGRAM_API_URL") or TELEGRAM_API_URL,
            meta_graph_url=read.url("META_GRAPH_URL") or META_GRAPH_URL,
            gateway_urls=read.gateway_urls(),
        )

    @property
    def address(self) -> str:
        """Where our own routes are reached: PUBLIC_URL, or this machine's loopback."""
        return self.public_url or f"http://127.0.0.1:{self.port}"


class _Reader:
    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def text(self, name: str) -> str:
        if file := self._env.get(f"{name}_FILE", "").strip():
            return self._read(name, file)
        return self._env.get(name, "").strip()

    def _read(self, name: str, file: str) -> str:
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadSetting(f"{name}_FILE", f"{file} can't be read ({error}); give a readable text file") from error

    def url(self, name: str) -> str | None:
        value = self.text(name).rstrip("/")
        if not value:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise BadSetting(name, f"{value!r} is no address; give one like https://shop.example.com")
        return value

    def postgres(self, name: str) -> str | None:
        value = self.text(name)
        if value and urlsplit(value).scheme not in ("postgresql", "postgres"):
            raise BadSetting(name, "give an address like postgresql://user:password@host/database")
        if value and not _is_read_by_libpq(value):
            raise BadSetting(
                name, "PostgreSQL can't read it; write spaces and signs in its password as %20 and the like"
            )
        return value.replace("postgres://", "postgresql://", 1) or None

    def port(self, name: str, default: int) -> int:
        value = self.text(name) or str(default)
        if not (value.isascii() and value.isdigit() and 0 < int(value) < 65536):
            raise BadSetting(name, f"{value!r} is no port; give a number from 1 to 65535")
        return int(value)

    def count(self, name: str, default: int) -> int:
        value = self.text(name) or str(default)
        if not (value.isascii() and value.isdigit() and len(value) < 5):
            raise BadSetting(name, f"{value!r} is no number; give one like {default}, or 0 for none")
        return int(value)

    def secret(self, name: str) -> str:
        value = self.text(name)
        if value and len(value) < 32:
            raise BadSetting(name, "too short to be safe; give at least 32 random characters")
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.text(name) or default
        for choice in choices:
            if value.lower() == choice.lower():
                return choice
        raise BadSetting(name, f"{value!r} is not one of {', '.join(choices)}")

    def keys_dir(self) -> Path:
        keys = Path(self.text("KEYS_DIR") or "keys").absolute()
        data = Path(self.text("DATA_DIR") or "var").absolute()
        if keys.is_relative_to(data):
            raise BadSetting("KEYS_DIR", "must not lie inside DATA_DIR: a copy of the data must not carry its keys")
        return keys

    def networks(self, name: str) -> tuple[Network, ...]:
        words = self.text(name).replace(",", " ").split()
        try:
            return tuple(ipaddress.ip_network(word) for word in words)
        except ValueError as error:
            raise BadSetting(name, f"{error}; give networks like 10.0.0.0/8 or 127.0.0.1") from error

    def gateway_urls(self) -> Mapping[str, str]:
        not_gateways = {"TELEGRAM", "META_GRAPH"}
        names = {name.removesuffix("_FILE") for name in self._env}
        kinds = {name.removesuffix("_API_URL") for name in names if name.endswith("_API_URL")} - not_gateways
        found = {kind.lower(): self.url(f"{kind}_API_URL") for kind in kinds}
        return MappingProxyType({kind: url for kind, url in found.items() if url})


def _is_read_by_libpq(url: str) -> bool:
    try:
        ports = str(conninfo_to_dict(url).get("port", ""))
    except ProgrammingError:  # it quotes the password
        return False
    return all(port.isdecimal() for port in ports.split(",") if port)  # one for each host


def engine_url(database_url: str) -> str:
    """The address as SQLAlchemy wants it, with the driver named."""
    return database_url.replace("postgresql://", "postgresql+psycopg://", 1)
