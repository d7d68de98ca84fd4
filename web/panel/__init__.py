"""The panel: sellers' rooms under /loja/<seller>/, the operator's, and the doors that lead there.

Server-rendered, in Portuguese.

`register` puts all of it on an app: who may enter (`access`), the style sheets and scripts (`assets`), the headers of
every answer (`headers`), the error pages (`errors`) and the rooms, one module each.
"""

from __future__ import annotations

from flask import Blueprint, Flask

from web.panel import (
    access,
    account,
    assets,
    books,
    bots,
    chat,
    door,
    errors,
    gateways,
    headers,
    home,
    letters,
    sales,
    security,
    start,
)
from web.panel import format as formats
from web.panel import operator as operators

shop = Blueprint("shop", __name__, url_prefix="/loja/<int:seller_id>", template_folder="../templates")

access.guard(shop)
for room in (home, sales, bots, gateways, books, chat):
    shop.register_blueprint(room.room)

operator = Blueprint("operator", __name__, url_prefix="/operacao", template_folder="../templates")

operators.guard(operator)
for room in (letters, security):
    operator.register_blueprint(room.room)


def register(app: Flask) -> None:
    headers.set_up(app)
    errors.set_up(app)
    access.set_up(app)
    assets.set_up(app)
    formats.set_up(app)
    for blueprint in (door.room, start.room, account.room, shop, operator):
        app.register_blueprint(blueprint)
