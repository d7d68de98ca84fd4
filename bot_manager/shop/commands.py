"""What the command line runs: answers go to stdout, refusals to stderr, and an exit code comes back."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bot_manager.app import settings
from bot_manager.ops import doctor
from bot_manager.ops.check import report, something_is_wrong
from bot_manager.shop.apply import apply
from bot_manager.shop.export import NoSuchSeller, export
from bot_manager.shop.file import BadShop, load
from models import db


def main_apply(path: Path) -> int:
    """Applies the file, all or nothing; prints the answer as JSON. 1 when it was refused."""
    try:
        told = apply(load(path))
    except OSError as error:
        return _refused(f"{path} não pode ser lido: {error.strerror}.")
    except BadShop as bad:
        db.session.rollback()
        return _refused(f"{path} não foi aplicado; nada mudou.\n\n{bad}")
    db.session.commit()
    sys.stdout.write(json.dumps(told, ensure_ascii=False, indent=2) + "\n")
    return 0


def main_export(email: str) -> int:
    """Prints the seller's shop file. 1 when there is no such seller."""
    try:
        sys.stdout.write(export(email))
    except NoSuchSeller:
        return _refused(f"Nenhum vendedor tem o e-mail {email}.")
    return 0


def main_doctor(*, offline: bool = False) -> int:
    """Prints what was looked at and the fix of what is wrong. 1 when something is wrong; a warning is not."""
    checks = doctor.checks(settings(), offline=offline)
    sys.stdout.write(report(checks) + "\n")
    return int(something_is_wrong(checks))


def _refused(why: str) -> int:
    shown = "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in why)
    sys.stderr.write(shown + "\n")
    return 1
