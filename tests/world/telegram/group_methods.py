"""The Bot API's methods about groups: `{name: function of (fake, bot, params)}`."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from tests.world.telegram.answers import bad, forbidden
from tests.world.telegram.chats import Bot, Group, Json, Link, member, now
from tests.world.telegram.methods import find_chat
from tests.world.telegram.params import Params
from tests.world.telegram.people import Person

if TYPE_CHECKING:
    from tests.world.telegram import FakeTelegram

_FOR_EVER = range(30, 366 * 86400 + 1)  # a ban shorter or longer than this (in seconds) has no end


def create_chat_invite_link(fake: FakeTelegram, bot: Bot, params: Params) -> Json:
    group = _managed(fake, bot, params, "can_invite_users", "not enough rights to manage chat invite link")
    limit, expires = params.number("member_limit"), params.number("expire_date")
    by_request = params.flag("creates_join_request")
    if limit is not None and not 1 <= limit <= 99999:
        raise bad("member limit must be between 1 and 99999")
    if limit and by_request:
        raise bad("member limit can't be specified for links requiring administrator approval")
    if expires is not None and expires <= now():
        raise bad("EXPIRE_DATE_INVALID")
    if len(params.text("name")) > 32:
        raise bad("invite link name is too long")
    raw: Json = {
        "invite_link": f"https://t.me/+{secrets.token_urlsafe(12)}",
        "creator": bot.user(),
        "creates_join_request": by_request,
        "is_primary": False,
        "is_revoked": False,
    }
    given = {"name": params.text("name"), "expire_date": expires, "member_limit": limit}
    raw |= {key: value for key, value in given.items() if value}
    group.links[raw["invite_link"]] = Link(raw)
    return raw


def revoke_chat_invite_link(fake: FakeTelegram, bot: Bot, params: Params) -> Json:
    group = _managed(fake, bot, params, "can_invite_users", "not enough rights to manage chat invite link")
    link = group.links.get(params.text("invite_link"))
    if link is None or link.raw["creator"]["id"] != bot.id:
        raise bad("INVITE_HASH_EXPIRED")
    link.raw["is_revoked"] = True
    return dict(link.raw)


def ban_chat_member(fake: FakeTelegram, bot: Bot, params: Params) -> bool:
    group = _managed(fake, bot, params, "can_restrict_members", _NO_RESTRICT)
    person = _person(fake, params)
    if group.status(person.id) in ("creator", "administrator"):
        raise bad("user is an administrator of the chat")
    until = params.number("until_date", 0) or 0
    until = until if until - now() in _FOR_EVER else 0
    fake.change_member(group, person.user(), "kicked", by=bot.user(), until_date=until)
    return True


def unban_chat_member(fake: FakeTelegram, bot: Bot, params: Params) -> bool:
    group = _managed(fake, bot, params, "can_restrict_members", _NO_RESTRICT)
    person = _person(fake, params)
    is_banned = group.status(person.id) == "kicked"
    if is_banned or (group.has_in(person.id) and not params.flag("only_if_banned")):
        fake.change_member(group, person.user(), "left", by=bot.user())
    return True


def approve_chat_join_request(fake: FakeTelegram, bot: Bot, params: Params) -> bool:
    group, person, link = _request(fake, bot, params)
    link.joined.add(person.id)
    fake.change_member(group, person.user(), "member", by=bot.user(), link=link, by_request=True)
    return True


def decline_chat_join_request(fake: FakeTelegram, bot: Bot, params: Params) -> bool:
    _request(fake, bot, params)
    return True


def _request(fake: FakeTelegram, bot: Bot, params: Params) -> tuple[Group, Person, Link]:
    group = _managed(fake, bot, params, "can_invite_users", "not enough rights to manage chat join request")
    person = _person(fake, params)
    if group.has_in(person.id):
        raise bad("USER_ALREADY_PARTICIPANT")
    if person.id not in group.requests:
        raise bad("HIDE_REQUESTER_MISSING")
    return group, person, group.requests.pop(person.id)


def get_chat(fake: FakeTelegram, bot: Bot, params: Params) -> Json:
    chat = find_chat(fake, bot, params)
    if isinstance(chat, Group) and not chat.has_in(bot.id) and not chat.username:
        raise forbidden(f"bot is not a member of the {chat.type} chat")
    gifts = ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels")
    details = {"accent_color_id": 0, "max_reaction_count": 11, "accepted_gift_types": dict.fromkeys(gifts, True)}
    return chat.chat() | details


def get_chat_member(fake: FakeTelegram, bot: Bot, params: Params) -> Json:
    group = find_chat(fake, bot, params)
    if not isinstance(group, Group) or not group.has_in(bot.id):
        raise forbidden("bot is not a member of the supergroup chat")
    user_id = params.required("user_id")
    if known := group.members.get(user_id):
        return known
    return member(_person(fake, params).user(), "left")


_NO_RESTRICT = "not enough rights to restrict/unrestrict chat member"


def _managed(fake: FakeTelegram, bot: Bot, params: Params, right: str, missing: str) -> Group:
    group = find_chat(fake, bot, params)
    if not isinstance(group, Group):
        raise bad("can't manage a private chat")
    if not group.has_in(bot.id):
        raise forbidden(f"bot is not a member of the {group.type} chat")
    if not group.may(bot.id, right):
        raise bad(missing)
    return group


def _person(fake: FakeTelegram, params: Params) -> Person:
    person = fake.people.get(params.required("user_id"))
    if person is None:
        raise bad("PARTICIPANT_ID_INVALID")
    return person


METHODS: dict[str, Any] = {
    "createChatInviteLink": create_chat_invite_link,
    "revokeChatInviteLink": revoke_chat_invite_link,
    "banChatMember": ban_chat_member,
    "unbanChatMember": unban_chat_member,
    "approveChatJoinRequest": approve_chat_join_request,
    "declineChatJoinRequest": decline_chat_join_request,
    "getChat": get_chat,
    "getChatMember": get_chat_member,
}
