"""The shape of the house: imports go down only, edges know nothing of ours, and each rule has one keeper."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bot_manager", "gateways", "tracking", "web")

# From the ground up; a module may import its own floor's neighbours only where they form no circle.
FLOORS = (
    (
        "models",
        "bot_manager.settings",
        "bot_manager.log",
        "bot_manager.database.liveness",
        "bot_manager.network.strict",
    ),
    ("bot_manager.network.wire", "bot_manager.network.outgoing"),
    ("gateways", "bot_manager"),
    ("tracking.tokens", "tracking.identifiers", "tracking.normalize", "tracking.destinations", "tracking"),
    ("bot_manager.security.vault", "bot_manager.channels", "bot_manager.funnels"),
    ("bot_manager.app", "bot_manager.jobs.names", "bot_manager.jobs"),
    ("bot_manager.security.limits", "bot_manager.security.logins"),
    ("bot_manager.jobs.queue", "bot_manager.security.doors", "bot_manager.security.events"),
    ("bot_manager.addresses", "bot_manager.payments.accounts"),
    (
        "bot_manager.bots.inbox",
        "bot_manager.timeline",
        "bot_manager.payments.ledger",
        "bot_manager.sellers",
        "bot_manager.payments.breakers",
        "tracking.clicks",
    ),
    ("bot_manager.payments.decisions",),
    ("bot_manager.payments.payers",),
    (
        "bot_manager.sales",
        "bot_manager.messages",
        "bot_manager.access",
        "bot_manager.bots.updates",
        "tracking.purchases",
    ),
    ("bot_manager.payments.charges", "bot_manager.deliveries", "bot_manager.bots.connections"),
    (
        "bot_manager.conversations",
        "bot_manager.payments.notices",
        "bot_manager.payments.reconcile",
        "bot_manager.ops",
        "bot_manager.shop",
    ),
    ("bot_manager.ops.dead_letters",),
    ("bot_manager.jobs.kinds", "bot_manager.jobs.clock", "bot_manager.bots.polling"),
    ("bot_manager.jobs.worker", "web"),
    ("wsgi", "bot_manager.commands", "bot_manager.__main__"),
)
READ_OR_HAND_ON = {"bot_manager.settings", "bot_manager.commands.run", "bot_manager.commands.web"}
EDGES = ("gateways", "bot_manager.channels", "bot_manager.funnels", "tracking.destinations")
NOT_FOR_EDGES = ("models", "flask", "sqlalchemy", "flask_sqlalchemy", "procrastinate")


def modules() -> dict[str, Path]:
    files = [ROOT / "models.py", ROOT / "wsgi.py"]
    files += [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return {_name(file): file for file in files}


def _name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(name: str, file: Path) -> Iterator[str]:
    """The full names that a module imports, ours resolved to modules."""
    known = set(ALL)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (each if each in known else node.module for each in inner)


ALL = modules()
GRAPH = {name: {target for target in imports(name, file) if target in ALL} for name, file in ALL.items()}


def floor(name: str) -> int:
    """The floor of the longest listed name that is the module or a package around it."""
    fits = [(len(entry), level) for level, names in enumerate(FLOORS) for entry in names if _within(name, entry)]
    assert fits, f"{name} has no floor: give it one in FLOORS"
    return max(fits)[1]


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("name", sorted(ALL))
def test_imports_go_down_only(name: str) -> None:
    up = {target for target in GRAPH[name] if floor(target) > floor(name)}

    assert not up, f"{name} imports what stands above it"


def test_there_is_no_circle() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path, name))
        if name not in done:
            for target in GRAPH[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in GRAPH:
        visit(name, ())


@pytest.mark.parametrize("name", sorted(n for n in ALL if any(_within(n, edge) for edge in EDGES)))
def test_edges_know_no_tables_and_no_framework(name: str) -> None:
    taken = {target.split(".")[0] for target in imports(name, ALL[name])}

    assert not taken & set(NOT_FOR_EDGES)


@pytest.mark.parametrize(
    ("pattern", "keepers"),
    [
        # Reading is the settings' alone; the others only hand the whole environment on to a process they start.
        (r"os\.environ|getenv", READ_OR_HAND_ON),
        (r"\bprocrastinate\b.*import|import procrastinate", {"bot_manager.jobs.queue"}),
        (r"import apscheduler|from apscheduler", {"bot_manager.jobs.clock"}),
        (r"hmac\.new|\bmd5\b|verify=False|pickle|yaml\.load\(", set()),
        (r"\bexec\(|\beval\(", set()),
        # One parser for all that comes in; what the vault opens it has sealed itself.
        (
            r"json\.loads?\(|JSONDecoder|\.json\(\)|parse_qsl?\b|get_json|request\.json",
            {"bot_manager.network.strict", "bot_manager.security.vault"},
        ),
        (r"gzip|zlib|brotli", {"web.panel.assets"}),
        # One way out for each kind of talk: gateways and destinations, addresses of sellers, Telegram, the doctor.
        (
            r"\brequests\.(get|post|Session|request)\b|urlopen|HTTPAdapter",
            {"bot_manager.network.wire", "bot_manager.ops.probes"},
        ),
        (r"import aiohttp|from aiohttp", {"bot_manager.channels.telegram_request"}),
        (
            r"create_connection|socket\.connect|\.connect\(address",
            {"bot_manager.network.outgoing", "bot_manager.network.wire"},
        ),
    ],
    ids=[
        "environment",
        "engine",
        "clock",
        "weak",
        "eval",
        "parsers",
        "packed",
        "ways out",
        "async ways out",
        "sockets",
    ],
)
def test_each_of_these_has_one_keeper(pattern: str, keepers: set[str]) -> None:
    found = {name for name, file in ALL.items() if re.search(pattern, _code(file))}

    assert found <= keepers


def _code(file: Path) -> str:
    return re.sub(r'""".*?"""|#[^\n]*', "", file.read_text(), flags=re.DOTALL)


def test_only_sales_writes_the_status_of_a_payment() -> None:
    writers = set()
    for name, file in ALL.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if _writes_payment_status(node):
                writers.add(name)

    assert writers == {"bot_manager.sales"}


def _writes_payment_status(node: ast.AST) -> bool:
    """`….values(status=…)`, `payment.status = …` or `Payment(status=…)`."""
    if isinstance(node, ast.Call):
        makes = isinstance(node.func, ast.Name) and node.func.id == "Payment"
        updates = isinstance(node.func, ast.Attribute) and node.func.attr == "values"
        return (makes or updates) and any(keyword.arg == "status" for keyword in node.keywords)
    targets = node.targets if isinstance(node, ast.Assign) else []
    flat = [each for target in targets for each in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return any(isinstance(each, ast.Attribute) and each.attr == "status" for each in flat)


SECRETIVE = re.compile(r"(^|_)(secret|signature|token|password|hash|digest|mac|hmac|fingerprint|seal)s?($|_hash$)")


KEEP_TOKENS = {"bot_manager.channels.telegram", "bot_manager.shop.conflicts"}  # look ours up among ours, in memory


@pytest.mark.parametrize("name", sorted(ALL))
def test_secrets_are_compared_in_constant_time_as_bytes(name: str) -> None:
    """Neither `==` nor `in` looks at a secret; `compare_digest`, which refuses text beyond ASCII, is given bytes."""
    for node in ast.walk(ast.parse(ALL[name].read_text())):
        if isinstance(node, ast.Compare) and not (name in KEEP_TOKENS and isinstance(node.ops[0], ast.In | ast.NotIn)):
            assert not _looks_at_a_secret(node), f"{name}:{node.lineno}"
        if isinstance(node, ast.Call) and _last_name(node.func) == "compare_digest":
            assert all(map(_is_bytes, node.args)), f"{name}:{node.lineno}"


def _looks_at_a_secret(node: ast.Compare) -> bool:
    """Comparing with nothing or with a number tells nothing, and the database looks up by what it has an index on."""
    pairs = zip([node.left, *node.comparators], node.ops, node.comparators, strict=False)
    return any(
        isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn)
        and not any(map(_is_column, (left, right)))
        and not (isinstance(right, ast.Constant) and not isinstance(right.value, str | bytes))
        and (_is_secretive(left) or (isinstance(op, ast.Eq | ast.NotEq) and _is_secretive(right)))
        for left, op, right in pairs
    )


def _is_secretive(node: ast.AST) -> bool:
    """`token`, `entry.secret_hash`, `row["signature"]`, `fingerprint(…)`."""
    if isinstance(node, ast.Subscript):
        node = node.slice
    if isinstance(node, ast.Call):
        node = node.func
    said = node.value if isinstance(node, ast.Constant) else _last_name(node)
    return isinstance(said, str) and bool(SECRETIVE.search(said))


def _is_bytes(node: ast.AST) -> bool:
    """`….encode(…)`, `….digest()`, or a name that is told below to hold bytes."""
    if isinstance(node, ast.Call) and _last_name(node.func) in {"encode", "digest", "_seal"}:
        return True
    return _last_name(node) in BYTES


BYTES = {"sent", "seal"}  # `sent` in web.intake, `seal` in tracking.tokens


def test_what_must_not_be_guessed_is_never_a_uuid() -> None:
    for name, file in ALL.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Assign) and "uuid" in ast.unparse(node.value):
                assert not {_last_name(t) for t in node.targets} & {"secret", "token", "key"}, f"{name}:{node.lineno}"


def _is_column(node: ast.AST) -> bool:
    """`Click.tracking_token`, `_payment.c.webhook_token`: compared by the database, in a look-up."""
    of = node.value if isinstance(node, ast.Attribute) else None
    return (isinstance(of, ast.Name) and of.id[0].isupper()) or (isinstance(of, ast.Attribute) and of.attr == "c")


def _last_name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
