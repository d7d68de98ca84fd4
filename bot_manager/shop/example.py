"""The sample course and the test bot of a first run: a sale can be made minutes after `make run`."""

from __future__ import annotations

from bot_manager.security import doors
from bot_manager.security.vault import new_secret
from models import Bot, BotOffer, BotState, DoorKind, Offer, db

COURSE = "Curso de exemplo"
PRICE_CENTS = 4990
DELIVERS = [{"kind": "link", "url": "https://example.com/curso"}]


def add(seller_id: int) -> Bot:
    """Makes them for the seller that the transaction acts for."""
    offer = Offer(seller_id=seller_id, key="curso-de-exemplo", name=COURSE, price_cents=PRICE_CENTS, delivers=DELIVERS)
    bot = Bot(
        seller_id=seller_id,
        key="teste",
        name="Bot de teste",
        public_id=new_secret(),
        test=True,
        state=BotState.UNCONNECTED,
    )
    db.session.add_all([offer, bot])
    db.session.flush()
    db.session.add(BotOffer(bot_id=bot.id, offer_id=offer.id, seller_id=seller_id, position=1))
    doors.put(DoorKind.BOT, bot.public_id, seller_id, bot.id)
    return bot
