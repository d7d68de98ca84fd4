"""The process door: `python -m bot_manager <command>`."""

from __future__ import annotations

import sys
from importlib import import_module

from bot_manager import VERSION, log
from bot_manager.ops.postgres_data import Unavailable
from bot_manager.ops.processes import CannotRun
from bot_manager.settings import BadSetting, Settings

# Each is a module of `bot_manager.commands`, imported only when it is called: the process that watches over the
# others need not carry what they carry.
COMMANDS = {
    "run": "PostgreSQL, web and worker, until Ctrl-C",
    "web": "the HTTP door alone",
    "worker": "jobs and the clock alone: worker [--bots] [money chat bulk]",
    "alone": "the jobs that were there when workers died; a worker calls it",
    "bots": "polling of bots alone",
    "migrate": "bring the database to the newest schema",
    "apply": "make a shop be what a file says: apply FILE",
    "export": "a shop's file back, without secrets: export EMAIL",
    "doctor": "check all that a sale needs, and say the fix: doctor [--offline]",
    "backup": "everything but the keys in one file: backup FILE|-",
    "restore": "the database as a backup has it: restore FILE [--replace]",
    "drill": "back up, restore beside the real database, compare, and time it all",
    "rotate-keys": "a new key for all that is sealed, while everything runs: rotate-keys [--check | --remove-old]",
    "rotate-webhook": "another secret in the address of a gateway's notices: rotate-webhook EMAIL GATEWAY [--days 7]",
    "first_login": "make the operator of a new installation, once; lost before anybody used it: first_login --again",
}


def main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else 2
    if words[0] == "--version":
        print(VERSION)
        return 0
    if words[0] not in COMMANDS:
        print(f"bot_manager: there is no command {words[0]!r}\n\n{_help()}", file=sys.stderr)
        return 2
    return _call(words[0], words[1:])


def _call(name: str, words: list[str]) -> int:
    try:
        settings = Settings.from_env()
        log.set_up(settings.log_format, settings.log_level)
        return int(import_module(f"bot_manager.commands.{name.replace('-', '_')}").main(settings, words))
    except (BadSetting, CannotRun, Unavailable) as error:
        print(f"bot_manager: {error}", file=sys.stderr)
        return 2


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(["python -m bot_manager <command>", "", *lines])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
