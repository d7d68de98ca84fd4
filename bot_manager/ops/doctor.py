"""The doctor: looks at all that a sale needs, and says the fix of what is wrong.

Four rounds: this machine, the database, what each shop lacks and, unless told to stay offline, whether the outside
accepts us. No transaction is open while the outside is asked.
"""

from __future__ import annotations

import ipaddress
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

import gateways
from bot_manager.ops import daily_backup, database_checks, origins, probes, shop_checks
from bot_manager.ops.check import Check, bad, doubtful, good
from bot_manager.settings import Settings
from bot_manager.shop.rules import is_zone
from models import db

LEAST_FREE_BYTES = 200_000_000
FREE_BYTES = 1_000_000_000


def checks(settings: Settings, *, offline: bool = False) -> list[Check]:
    """Called in an app context. offline: asks neither gateways nor Telegram, our own address or the sellers' links."""
    found = [_overridden(settings), _keys(settings), _address(settings), _disk(settings.data_dir), _zones()]
    try:
        return found + _stored(settings, offline)
    except (DBAPIError, PoolTimeout) as error:
        return [*found, database_checks.unreachable(error)]
    finally:
        db.session.rollback()


def _stored(settings: Settings, offline: bool) -> list[Check]:
    found = database_checks.checks()
    if not database_checks.usable(found):
        return found
    closed, questions = probes.questions(settings)
    found += [_backups(settings), origins.check(settings), *shop_checks.checks(), *closed]
    db.session.rollback()
    return found if offline else found + probes.ask(questions)


def _overridden(settings: Settings) -> Check:
    name = "configuração"
    if unknown := sorted(settings.gateway_urls.keys() - gateways.all_gateways().keys()):
        names = ", ".join(f"{kind.upper()}_API_URL" for kind in unknown)
        return doubtful(name, f"não há gateway para {names}", "Corrija o nome da variável, ou apague-a.")
    return good(name)


def _keys(settings: Settings) -> Check:
    name, directory = "chaves", settings.keys_dir
    if settings.secret_key and settings.encryption_keys:
        return good(name)
    kept = sorted(directory.iterdir()) if directory.is_dir() else []
    if not kept:
        return bad(name, f"{directory} não tem chaves", "Traga de volta a pasta de chaves: sem elas nada se abre.")
    if exposed := [path for path in (directory, *kept) if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]:
        fix = f"chmod 700 {directory} && chmod 600 {directory}/*"
        return bad(name, f"outros usuários da máquina alcançam {exposed[0]}", fix)
    return good(name)


def _address(settings: Settings) -> Check:
    name = "endereço público"
    if settings.public_url is None:
        problem = (
            "sem PUBLIC_URL os bots usam polling e nenhum aviso de gateway chega: pagamentos são vistos por consulta"
        )
        return doubtful(name, problem, "Num servidor, ponha em PUBLIC_URL o endereço https dele.")
    parts = urlsplit(settings.public_url)
    if _is_local(parts.hostname or ""):
        problem = f"{settings.public_url} só existe nesta rede: Telegram e gateways não chegam nele"
        return doubtful(name, problem, "Ponha em PUBLIC_URL um endereço que se alcance de fora.")
    if parts.scheme != "https":
        return bad(name, "PUBLIC_URL não é https, e o Telegram só aceita https", "Ponha um certificado e use https://.")
    return good(name)


def _is_local(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host


def _disk(data_dir: Path) -> Check:
    name = "espaço em disco"
    there = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    free = shutil.disk_usage(there).free
    problem, fix = f"restam {free // 1_000_000} MB em {there}", "Apague o que não precisa, ou aumente o disco."
    if free < LEAST_FREE_BYTES:
        return bad(name, problem, fix)
    return doubtful(name, problem, fix) if free < FREE_BYTES else good(name)


def _backups(settings: Settings) -> Check:
    name = "cópia de segurança"
    began = db.session.execute(text('select min(created_at) from "user"')).scalar()
    last = daily_backup.newest(settings) or began
    if not settings.backups_kept or last is None or datetime.now(UTC) - last <= daily_backup.OLD:
        return good(name)
    problem = f"a última boa em {daily_backup.directory(settings)} é de {last:%d/%m/%Y}"
    if last == began:
        problem = f"não há nenhuma em {daily_backup.directory(settings)}"
    fix = "Rode um worker com DATABASE_OWNER_URL, ou faça a sua (`backup FILE`) e ponha BACKUPS_KEPT=0."
    return doubtful(name, problem, fix)


def _zones() -> Check:
    name = "fusos horários"
    return (
        good(name) if is_zone("America/Sao_Paulo") else bad(name, "não há dados de fusos", "Instale o pacote tzdata.")
    )
