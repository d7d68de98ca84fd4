"""Notices of every kind about one charge: true ones again, old ones, changed ones, somebody else's, and plain lies.

Whatever they are worth, the ledger of the fakes stays what it was: the bank's word is not changed by a notice.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.shops import Shop
from tests.stage import Stage
from tests.world.bank import Charge
from tests.world.notices import Notice
from tests.world.woovi import COMPLETED
from tests.world.woovi_shapes import notice_body


def tell(stage: Stage, charge: Charge, kind: str) -> list[Notice]:
    """Posts one notice (or two of the same) about the charge; those kinds that its company cannot make are none."""
    if charge.id in stage.world.pushinpay.charges:
        return _PUSHINPAY[kind](stage, charge)
    return _WOOVI[kind](stage, charge)


def _seller(stage: Stage, charge: Charge) -> Shop:
    number = charge.account.rpartition("-")[2]
    return next(shop for shop in stage.shops if shop.slug == f"promo{number}")


def _other_seller(stage: Stage, charge: Charge) -> Shop:
    mine = _seller(stage, charge)
    return next(shop for shop in stage.shops if shop is not mine)


def _foreign_url(stage: Stage, charge: Charge, kind: str) -> str:
    """The other seller's address, with this charge's token."""
    return f"{stage.notice_url(_other_seller(stage, charge), kind)}?{urlsplit(charge.notice_url).query}"


def _neighbours_url(stage: Stage, charge: Charge) -> str:
    """The address of another charge of the same account, if there is one."""
    others = [c for c in stage.world.pushinpay.charges.values() if c.account == charge.account and c is not charge]
    return (others or [charge])[0].notice_url


# PushinPay: no signature, so a notice is a hint, and whoever knows the address can write one.


def _says(**options: object) -> Callable[[Stage, Charge], list[Notice]]:
    return lambda stage, charge: stage.world.pushinpay.send_notice(charge.id, **options)  # type: ignore[arg-type]


_PUSHINPAY: dict[str, Callable[[Stage, Charge], list[Notice]]] = {
    "again": _says(),
    "twice": _says(copies=2),
    "as a form": _says(form=True),
    "paid": _says(status="paid"),
    "an unknown word": _says(status="liquidado"),
    "another amount": _says(status="paid", changes={"value": 1}),
    "expired": _says(status="expired"),
    "refunded": _says(status="refunded"),
    "unreadable": _says(body=b'{"id": "\xff'),
    "to the other seller": lambda stage, charge: stage.world.pushinpay.send_notice(
        charge.id, status="paid", url=_foreign_url(stage, charge, "pushinpay")
    ),
    "to another account": lambda stage, charge: [],
    "about two charges": lambda stage, charge: stage.world.pushinpay.send_notice(
        charge.id, url=_neighbours_url(stage, charge)
    ),
    "with a wrong secret": lambda stage, charge: stage.world.pushinpay.send_notice(
        charge.id, status="paid", url=charge.notice_url.replace("?", "x?")
    ),
    "unsigned": _says(status="paid", headers={"x-pushinpay-token": "x"}),
    "badly signed": lambda stage, charge: [],
}


# Woovi: signed with its own key, so its word counts; what it did not sign is no word of its.


def _signed(stage: Stage, charge: Charge, event: str, url: str | None = None, **changes: object) -> list[Notice]:
    woovi = stage.world.woovi
    content = json.dumps(notice_body(charge, event, "PRODUCTION", changes)).encode()
    headers = {"Content-Type": "application/json", "x-webhook-signature": woovi.keys.sign(content)}
    own = "second" if "second" in charge.account else "woovi"
    return woovi.post(url or stage.notice_url(_seller(stage, charge), own), content, headers)


def _true(charge: Charge) -> str:
    return COMPLETED if charge.paid else "OPENPIX:CHARGE_CREATED"


def _forged(signature: str) -> Callable[[Stage, Charge], list[Notice]]:
    """It says paid, and has no proof, or a wrong one."""
    return lambda stage, charge: stage.world.woovi.send_notice(
        charge,
        COMPLETED,
        changes={"status": "COMPLETED"},
        signature=signature,  # type: ignore[arg-type]
    )


_WOOVI: dict[str, Callable[[Stage, Charge], list[Notice]]] = {
    "again": lambda stage, charge: _signed(stage, charge, _true(charge)),
    "twice": lambda stage, charge: stage.world.woovi.send_notice(charge, _true(charge), copies=2),
    "as a form": lambda stage, charge: [],
    "paid": _forged("missing"),
    "an unknown word": lambda stage, charge: _signed(stage, charge, COMPLETED, status="LIQUIDADO"),
    "another amount": lambda stage, charge: _signed(stage, charge, COMPLETED, status="COMPLETED", value=1),
    "expired": lambda stage, charge: _signed(stage, charge, "OPENPIX:CHARGE_EXPIRED", status="EXPIRED"),
    "refunded": _forged("legacy"),
    "unreadable": lambda stage, charge: stage.world.woovi.send_notice(charge, _true(charge), body=b"[1"),
    "to the other seller": lambda stage, charge: _signed(
        stage, charge, _true(charge), stage.notice_url(_other_seller(stage, charge), "woovi")
    ),
    "to another account": lambda stage, charge: _signed(stage, charge, _true(charge), _second_url(stage, charge)),
    "about two charges": lambda stage, charge: _signed(
        stage, charge, _true(charge), correlationID=_another_reference(stage, charge)
    ),
    "with a wrong secret": lambda stage, charge: _signed(
        stage, charge, _true(charge), stage.notice_url(_seller(stage, charge), "woovi") + "x"
    ),
    "unsigned": _forged("missing"),
    "badly signed": _forged("wrong"),
}


def _second_url(stage: Stage, charge: Charge) -> str:
    """Of the same seller's other account there."""
    other = "woovi" if "second" in charge.account else "second"
    return stage.notice_url(_seller(stage, charge), other)


def _another_reference(stage: Stage, charge: Charge) -> str:
    others = [c for c in stage.world.woovi.charges.values() if c.account == charge.account and c is not charge]
    return (others or [charge])[0].reference


KINDS = tuple(_PUSHINPAY)
