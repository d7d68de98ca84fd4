"""The Bot API's methods about messages and about the bot itself: `{name: function of (fake, bot, params)}`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.world.calls import Refused
from tests.world.telegram.answers import bad, forbidden
from tests.world.telegram.chats import Bot, Dialogue, Group, Json, Message, now
from tests.world.telegram.html import units
from tests.world.telegram.params import Params
from tests.world.telegram.rules import CALLBACK_ANSWER_LIMIT, keyboard, message_caption, message_text, photo_size

if TYPE_CHECKING:
    from tests.world.telegram import FakeTelegram

Chat = Dialogue | Group
_SAME = (
    "message is not modified: specified new message content and reply markup are exactly the same as a current"
    " content and reply markup of the message"
)


def get_me(fake: FakeTelegram, bot: Bot, params: Params) -> Json:
    abilities = {
        "can_join_groups": True,
        "can_read_all_group_messages": False,
        "supports_inline_queries": False,
        "can_connect_to_business": False,
        "has_main_web_app": False,
    }
    return bot.user() | abilities


def set_my_commands(fake: FakeTelegram, bot: Bot, params: Params) -> bool:
    commands = params.parsed("commands", list) or []
    if len(commands) > 100:
        raise bad("BOT_COMMANDS_TOO_MUCH")
    for command in commands:
        if not re.fullmatch(r"[a-z0-9_]{1,32}", command.get("command", "")):
            raise bad("BOT_COMMAND_INVALID")
        if not 1 <= units(command.get("description", "")) <= 256:
            raise bad("BOT_COMMAND_DESCRIPTION_INVALID")
    bot.commands[params.text("scope") + params.text("language_code")] = commands
    return True


def get_my_commands(fake: FakeTelegram, bot: Bot, params: Params) -> list[Json]:
    return bot.commands.get(params.text("scope") + params.text("language_code"), [])


def send_message(fake: FakeTelegram, bot: Bot, params: Params) -> Json:
    text, entities = message_text(params)
    content: Json = {"text": text}
    if entities:
        content["entities"] = entities
    return _send(fake, bot, params, content)


def send_photo(fake: FakeTelegram, bot: Bot, params: Params) -> Json:
    caption, entities = message_caption(params)
    _writable(fake, bot, params)
    file_id, data = _photo(fake, bot, params)
    width, height = photo_size(data)
    size = {"file_id": file_id, "file_unique_id": file_id[-16:], "width": width, "height": height}
    content: Json = {"photo": [size | {"file_size": len(data)}]}
    if caption:
        content["caption"] = caption
    if entities:
        content["caption_entities"] = entities
    return _send(fake, bot, params, content, data)


def _photo(fake: FakeTelegram, bot: Bot, params: Params) -> tuple[str, bytes]:
    name = params.text("photo")
    if "photo" in params.files:
        return _keep(fake, bot, params.files["photo"])
    if name.startswith("attach://"):
        if (part := name.removeprefix("attach://")) not in params.files:
            raise bad("there is no file to be attached")
        return _keep(fake, bot, params.files[part])
    if not name:
        raise bad("there is no photo in the request")
    if name.startswith(("http://", "https://")):  # the fake has no internet either
        raise bad("failed to get HTTP URL content")
    owner, data = fake.files.get(name, (None, b""))
    if owner is not bot:
        raise bad("wrong file identifier/HTTP URL specified")
    return name, data


def _keep(fake: FakeTelegram, bot: Bot, data: bytes) -> tuple[str, bytes]:
    photo_size(data)
    file_id = f"AgACAgEAAxkBAAE{bot.id:x}-{fake.fresh_id():016x}"
    fake.files[file_id] = (bot, data)
    return file_id, data


def get_file(fake: FakeTelegram, bot: Bot, params: Params) -> Json:
    file_id = params.text("file_id")
    owner, data = fake.files.get(file_id, (None, b""))
    if owner is not bot:
        raise bad("wrong file_id or the file is temporarily unavailable")
    unique = {"file_id": file_id, "file_unique_id": file_id[-16:], "file_size": len(data)}
    return unique | {"file_path": f"photos/{file_id}.png"}


def send_chat_action(fake: FakeTelegram, bot: Bot, params: Params) -> bool:
    _writable(fake, bot, params)
    if not params.text("action"):
        raise bad("wrong parameter action in request")
    return True


def _send(fake: FakeTelegram, bot: Bot, params: Params, content: Json, photo: bytes | None = None) -> Json:
    markup = keyboard(params)
    chat = _writable(fake, bot, params)
    fake.slow_down(bot, chat.id)
    raw: Json = {"message_id": chat.next_id(), "from": bot.user(), "chat": chat.chat(), "date": now(), **content}
    if markup:
        raw["reply_markup"] = markup
    if params.flag("protect_content"):
        raw["has_protected_content"] = True
    chat.messages.append(Message(raw, photo))
    return dict(raw)


def find_chat(fake: FakeTelegram, bot: Bot, params: Params) -> Chat:
    """The chat that chat_id names. Raises "chat not found"."""
    name = params.text("chat_id")
    if not name:
        raise bad("chat_id is empty")
    for group in fake.groups.values():
        if name in (str(group.id), f"@{group.username}"):
            return group
    person = fake.people.get(int(name)) if name.isdecimal() else None
    if person is None:
        raise bad("chat not found")
    return fake.dialogue(bot, person)


def _writable(fake: FakeTelegram, bot: Bot, params: Params) -> Chat:
    chat = find_chat(fake, bot, params)
    problem = _group_problem(chat, bot) if isinstance(chat, Group) else _private_problem(chat)
    if problem:
        raise problem
    return chat


def _private_problem(chat: Dialogue) -> Refused | None:
    if chat.person.deactivated:
        return forbidden("user is deactivated")
    if chat.blocked:
        return forbidden("bot was blocked by the user")
    if not chat.started and chat.open_until <= now():
        return forbidden("bot can't initiate conversation with a user")
    return None


def _group_problem(chat: Group, bot: Bot) -> Refused | None:
    kind = f"{chat.type} chat"
    if chat.status(bot.id) == "kicked":
        return forbidden(f"bot was kicked from the {kind}")
    if not chat.has_in(bot.id):
        return forbidden(f"bot is not a member of the {kind}")
    if chat.type == "channel" and not chat.may(bot.id, "can_post_messages"):
        return bad("need administrator rights in the channel chat")
    return None


def edit_message_text(fake: FakeTelegram, bot: Bot, params: Params) -> Json:
    message = _own(fake, bot, params)
    if "text" not in message.raw:
        raise bad("there is no text in the message to edit")
    text, entities = message_text(params)
    return _change(message, {"text": text, "entities": entities}, params)


def edit_message_caption(fake: FakeTelegram, bot: Bot, params: Params) -> Json:
    message = _own(fake, bot, params)
    if "photo" not in message.raw:
        raise bad("there is no caption in the message to edit")
    caption, entities = message_caption(params)
    return _change(message, {"caption": caption, "caption_entities": entities}, params)


def edit_message_reply_markup(fake: FakeTelegram, bot: Bot, params: Params) -> Json:
    return _change(_own(fake, bot, params), {}, params)


def _change(message: Message, content: Json, params: Params) -> Json:
    changed = {**message.raw, **content, "reply_markup": keyboard(params)}
    changed = {key: value for key, value in changed.items() if value not in (None, [], "")}
    if changed == message.raw:
        raise bad(_SAME)
    message.raw = changed | {"edit_date": now()}
    message.edits += 1
    return dict(message.raw)


def delete_message(fake: FakeTelegram, bot: Bot, params: Params) -> bool:
    message = _find(fake, bot, params, "message to delete not found")
    message.deleted = True
    return True


def _own(fake: FakeTelegram, bot: Bot, params: Params) -> Message:
    message = _find(fake, bot, params, "message to edit not found")
    if message.raw["from"]["id"] != bot.id:
        raise bad("message can't be edited")
    return message


def _find(fake: FakeTelegram, bot: Bot, params: Params, missing: str) -> Message:
    chat, message_id = find_chat(fake, bot, params), params.required("message_id")
    for message in chat.messages:
        if message.id == message_id and not message.deleted:
            return message
    raise bad(missing)


def answer_callback_query(fake: FakeTelegram, bot: Bot, params: Params) -> bool:
    query_id = params.text("callback_query_id")
    if fake.queries.get(query_id) is not bot:
        raise bad("query is too old and response timeout expired or query ID is invalid")
    if units(params.text("text")) > CALLBACK_ANSWER_LIMIT:
        raise bad("MESSAGE_TOO_LONG")
    fake.toasts[query_id] = params.text("text")
    return True


METHODS: dict[str, Any] = {
    "getMe": get_me,
    "setMyCommands": set_my_commands,
    "getMyCommands": get_my_commands,
    "sendMessage": send_message,
    "sendPhoto": send_photo,
    "sendChatAction": send_chat_action,
    "getFile": get_file,
    "editMessageText": edit_message_text,
    "editMessageCaption": edit_message_caption,
    "editMessageReplyMarkup": edit_message_reply_markup,
    "deleteMessage": delete_message,
    "answerCallbackQuery": answer_callback_query,
}
