"""The names of all jobs, and the lane in which each runs.

A job's name is all that one part of the core knows of another: `bot_manager.jobs.kinds` ties names to functions.
"""

from __future__ import annotations

from enum import StrEnum


class Lane(StrEnum):
    MONEY = "money"
    CHAT = "chat"
    BULK = "bulk"


class Name(StrEnum):
    CONVERSE = "converse"
    SEND = "send"
    ANSWER_TAP = "answer_tap"
    CHARGE = "charge"
    LOOK = "look"
    RECONCILE = "reconcile"
    CONFIRM = "confirm"
    REMATCH = "rematch"
    BOOK = "book"
    DELIVER = "deliver"
    ADMIT = "admit"
    END_ACCESS = "end_access"
    TAKE_ACCESS_BACK = "take_access_back"
    REPORT_PURCHASE = "report_purchase"
    SEND_CONVERSION = "send_conversion"
    CONNECT_BOT = "connect_bot"
    DISCONNECT_BOT = "disconnect_bot"
    FETCH_PUBLIC_KEYS = "fetch_public_keys"
    RETRY_BATCH = "retry_batch"


LANES: dict[Name, Lane] = {
    Name.CONVERSE: Lane.CHAT,
    Name.SEND: Lane.CHAT,
    Name.ANSWER_TAP: Lane.CHAT,
    Name.DELIVER: Lane.CHAT,
    Name.CHARGE: Lane.MONEY,
    Name.LOOK: Lane.MONEY,
    Name.RECONCILE: Lane.MONEY,
    Name.CONFIRM: Lane.MONEY,
    Name.REMATCH: Lane.MONEY,
    Name.BOOK: Lane.BULK,
    Name.ADMIT: Lane.CHAT,
    Name.END_ACCESS: Lane.BULK,
    Name.TAKE_ACCESS_BACK: Lane.MONEY,
    Name.REPORT_PURCHASE: Lane.BULK,
    Name.SEND_CONVERSION: Lane.BULK,
    Name.CONNECT_BOT: Lane.BULK,
    Name.DISCONNECT_BOT: Lane.BULK,
    Name.FETCH_PUBLIC_KEYS: Lane.BULK,
    Name.RETRY_BATCH: Lane.BULK,
}
