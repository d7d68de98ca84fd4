"""Fetches the panel's third-party files by exact version and writes them, with a lock, where they are committed.

For whoever moves a version: change it here, run `python tools/vendor.py`, look at the difference, commit. Everybody
else never runs it; it needs npm. A version whose integrity is in the lock must come again as it was.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "web" / "static" / "vendor"
FOR_TESTS = ROOT / "tests" / "vendor"
LOCK = ROOT / "tools" / "vendor.lock.json"
ICONS = """
    alert-triangle arrow-back-up arrow-left arrow-right building-bank building-store chart-bar check chevron-down
    chevron-right circle-check circle-x click clock copy credit-card dots external-link eye flask history home
    hourglass info-circle link logout message-circle moon package plug-connected-x qrcode refresh robot send send-2
    shopping-cart sun switch-horizontal target-arrow world-off
"""

Lock = dict[str, dict[str, Any]]


def main() -> None:
    old: Lock = json.loads(LOCK.read_text()) if LOCK.exists() else {}
    new: Lock = {}
    for directory in (STATIC, FOR_TESTS):
        shutil.rmtree(directory, ignore_errors=True)
    for (name, version), make in PACKAGES.items():
        with tempfile.TemporaryDirectory() as place:
            package = Package(name, version, Path(place))
            package.check(old.get(name, {}))
            new[name] = package.entry(make(package))
            print(f"{name} {version}")
    LOCK.write_text(json.dumps(new, indent=2) + "\n")


class Package:
    """An npm package, unpacked into a directory of its own."""

    def __init__(self, name: str, version: str, place: Path) -> None:
        self.name, self.version = name, version
        command = ["npm", "pack", "--silent", "--pack-destination", str(place), f"{name}@{version}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        tarball = next(place.glob("*.tgz"))
        self.integrity = "sha512-" + base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
        with tarfile.open(tarball) as archive:
            archive.extractall(place, filter="data")
        self.files = place / "package"

    def check(self, locked: dict[str, Any]) -> None:
        if locked.get("version") == self.version and locked["integrity"] != self.integrity:
            sys.exit(f"{self.name} {self.version} is not what it was: {self.integrity}")

    def entry(self, written: list[Path]) -> dict[str, Any]:
        licence = json.loads((self.files / "package.json").read_text())["license"]
        digests = {str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest() for path in written}
        return {"version": self.version, "integrity": self.integrity, "license": licence, "files": digests}

    def read(self, path: str) -> str:
        return (self.files / path).read_text(encoding="utf-8")


def bootstrap(package: Package) -> list[Path]:
    """Only the style sheet, in a layer, so that ours wins without fighting over specificity."""
    style = package.read("dist/css/bootstrap.min.css").partition("/*# sourceMappingURL")[0]
    charset, _, rules = style.partition(";")
    if not charset.startswith("@charset"):
        charset, rules = "", style
    return keep(
        STATIC / f"bootstrap-{package.version}.css", f"{charset + ';' if charset else ''}@layer kit{{{rules}}}\n"
    )


def htmx(package: Package) -> list[Path]:
    script = package.read("dist/htmx.min.js").partition("//# sourceMappingURL")[0]
    return keep(STATIC / f"htmx-{package.version}.js", script)


def icons(package: Package) -> list[Path]:
    """One sprite of the icons that the panel shows."""
    symbols = "".join(_symbol(package, name) for name in ICONS.split())
    head = f"<!-- Tabler Icons {package.version}, MIT, Copyright (c) 2020-2026 Paweł Kuna -->"
    return keep(STATIC / "icons.svg", f'{head}<svg xmlns="http://www.w3.org/2000/svg">{symbols}</svg>\n')


def _symbol(package: Package, name: str) -> str:
    drawing = package.read(f"icons/outline/{name}.svg")
    shapes = re.findall(r"<(?:path|circle|rect|line|polyline|ellipse)\b[^>]*/>", drawing)
    seen = [" ".join(shape.split()) for shape in shapes if 'stroke="none"' not in shape]
    return f'<symbol id="{name}" viewBox="0 0 24 24">{"".join(seen)}</symbol>'


def inter(package: Package) -> list[Path]:
    source = package.files / "files" / "inter-latin-wght-normal.woff2"
    target = STATIC / f"inter-{package.version}.woff2"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return [target, *keep(STATIC / "inter-LICENSE.txt", package.read("LICENSE"))]


def axe(package: Package) -> list[Path]:
    return keep(FOR_TESTS / f"axe-{package.version}.js", package.read("axe.min.js"))


def keep(path: Path, text: str) -> list[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return [path]


PACKAGES: dict[tuple[str, str], Callable[[Package], list[Path]]] = {
    ("bootstrap", "5.3.8"): bootstrap,
    ("htmx.org", "4.0.1"): htmx,
    ("@tabler/icons", "3.51.0"): icons,
    ("@fontsource-variable/inter", "5.3.0"): inter,
    ("axe-core", "4.14.1"): axe,
}

if __name__ == "__main__":
    main()
