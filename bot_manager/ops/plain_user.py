"""How root runs PostgreSQL, which refuses root: as a plain user, through util-linux's `setpriv`."""

from __future__ import annotations

import pwd
import subprocess
from pathlib import Path

_CAPABILITIES = ("dac_read_search", "dac_override")  # the lesser first; containers often have only the second


class NoPlainUser(Exception):
    """No user but root can run the program here."""


def owner_of(*paths: Path) -> tuple[int, int]:
    """(uid, gid) of the first of `paths` that is there and is a plain user's; else nobody's."""
    for path in paths:
        if path.exists() and (found := path.stat()).st_uid and _is_known(found.st_uid):
            return found.st_uid, found.st_gid
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def name_of(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name if _is_known(uid) else f"user {uid}"


def setpriv(uid: int, gid: int, *, program: Path, home: Path) -> list[str]:
    """The words to `setpriv` with which that user can run `program` and work in `home`. Raises NoPlainUser.

    Where the user has no way to them (a checkout under /root), the program keeps the least capability that makes one,
    so that no directory has to be opened to the world.
    """
    user = [f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    for words in (user, *([*user, *_keep(capability)] for capability in _CAPABILITIES)):
        if _works(words, program, home):
            return words
    raise NoPlainUser


def _keep(capability: str) -> list[str]:
    # Without no_setuid_fixup access(2), by which PostgreSQL looks for itself, would not count capabilities.
    return ["--securebits=+no_setuid_fixup", f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}"]


def _works(words: list[str], program: Path, home: Path) -> bool:
    # Through `sh`, because `setpriv` itself still has root's capabilities when it starts its program.
    look = ["sh", "-c", 'cd "$1" && exec "$2" --version', "sh", str(home), str(program)]
    command = ["setpriv", *words, "--", *look]
    return subprocess.run(command, capture_output=True, check=False, cwd="/").returncode == 0  # noqa: S603


def _is_known(uid: int) -> bool:
    """Containers mount directories of users they have never heard of; `initdb` needs the name."""
    try:
        return bool(pwd.getpwuid(uid))
    except KeyError:
        return False
