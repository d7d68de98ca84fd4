"""Finds what looks like a secret in the files that git keeps and isn't known to be an example.

    python tools/find_secrets.py            exit 1 if there is any
    python tools/find_secrets.py --accept   notes today's in tools/known_secrets.json as examples

A line may also say so itself: `pragma: allowlist secret`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from detect_secrets import SecretsCollection
from detect_secrets.core.potential_secret import PotentialSecret
from detect_secrets.settings import default_settings

ROOT = Path(__file__).parent.parent
KNOWN = ROOT / "tools" / "known_secrets.json"
SKIPPED = re.compile(r"requirements.*\.txt|.*/vendor/.*|tools/known_secrets\.json")
# Hashes and ids are everywhere here; what is called a password is one everywhere but in tests.
NOT_ASKED = ("Base64HighEntropyString", "HexHighEntropyString", "IPPublicDetector")
NOT_IN_TESTS = ("Secret Keyword", "Basic Auth Credentials")


def main() -> int:
    found = scan()
    if "--accept" in sys.argv:
        note(found)
        return 0
    known = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    new = [secret for secret in found if short_hash(secret) not in known.get(secret.filename, ())]
    for secret in new:
        print(f"{secret.filename}:{secret.line_number}: {secret.type}")
    if new:
        print("Take them out; examples: `python tools/find_secrets.py --accept`")
    return int(bool(new))


def scan() -> list[PotentialSecret]:
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    collection = SecretsCollection(root=str(ROOT))
    with default_settings() as settings:
        settings.disable_plugins(*NOT_ASKED)
        for name in names:
            if not SKIPPED.fullmatch(name):
                collection.scan_file(name)
    for name, secret in collection:
        secret.filename = name  # was the whole path
    found = [secret for _, secret in collection if counts(secret)]
    return sorted(found, key=lambda secret: (secret.filename, secret.line_number))


def counts(secret: PotentialSecret) -> bool:
    return not (secret.filename.startswith(("tests/", "benchmarks/")) and secret.type in NOT_IN_TESTS)


def note(found: list[PotentialSecret]) -> None:
    known: dict[str, list[str]] = {}
    for secret in found:
        known.setdefault(secret.filename, []).append(short_hash(secret))
    KNOWN.write_text(json.dumps(known, indent=1) + "\n")
    print(f"{len(found)} noted in {KNOWN.relative_to(ROOT)}")


def short_hash(secret: PotentialSecret) -> str:
    return secret.secret_hash[:12]


if __name__ == "__main__":
    sys.exit(main())
