"""The shop file is read whole or refused whole, and a refusal names the line, the key and what would do."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import gateways
from bot_manager.shop.file import BadShop, Mistake, Shop, load, read
from bot_manager.shop.lines import MAX_BYTES
from bot_manager.shop.schema import schema
from tests.shop_cast import SHOP

pytestmark = pytest.mark.usefixtures("providers")

SELLER = "seller: {name: Loja, email: dona@example.com}\n"
OFFER = 'offers:\n  - {key: curso, name: Curso, price: "9.90", delivers: [{kind: link, url: "https://example.com"}]}\n'
BOT = "bots:\n  - {key: vendas, offers: [curso]}\n"
GATEWAY = "gateways:\n  - {name: principal, kind: acme, credentials: {token: t}}\n"


def offer(**changes: str) -> str:
    entry = {"key": "curso", "name": "Curso", "price": '"9.90"', "delivers": '[{kind: link, url: "https://a.example"}]'}
    return SELLER + "offers:\n  - {" + ", ".join(f"{key}: {value}" for key, value in (entry | changes).items()) + "}\n"


def delivered(item: str) -> str:
    return offer(delivers=f"[{item}]")


def bot(text: str) -> str:
    return SELLER + OFFER + f"bots:\n  - {{key: vendas, {text}}}\n"


def gateway(text: str) -> str:
    return SELLER + f"gateways:\n  - {{{text}}}\n"


def destination(text: str) -> str:
    return SELLER + BOT.replace("[curso]", "[]") + f"destinations:\n  - {{name: pixel, kind: meta, {text}}}\n"


@dataclass(frozen=True)
class Case:
    """A broken file: the line and the key of its mistake, and a piece of what is told."""

    name: str
    text: str | bytes
    line: int
    key: str
    told: str


CASES = [
    # Not YAML that we take
    Case("empty", "", 1, "arquivo", "vazio"),
    Case("only a comment", "# nada\n", 1, "arquivo", "vazio"),
    Case("not a mapping", "- a\n- b\n", 1, "arquivo", "um bloco de chaves"),
    Case("too large", b"#" * (MAX_BYTES + 1), 1, "arquivo", "1000 KB"),
    Case("not UTF-8", b"seller:\n  name: Caf\xe9\n", 2, "arquivo", "UTF-8"),
    Case("a tab", "seller:\n\tname: Loja\n", 2, "arquivo", "TAB"),
    Case("a control character", "seller:\n  name: a\x07b\n", 2, "arquivo", "caractere de controle"),
    Case("a NUL, escaped", 'seller:\n  email: a@b.co\n  name: "a\\0b"\n', 3, "seller.name", "caractere de controle"),
    Case("half a character", 'seller:\n  email: a@b.co\n  name: "\\ud83d"\n', 3, "seller.name", "controle"),
    Case("beyond Unicode", 'seller:\n  name: "\\U00110000"\n', 2, "arquivo", "não existe"),
    Case("an open quote", 'seller:\n  name: "Loja\n  email: x\n', 2, "arquivo", "Feche as aspas"),
    Case("an open list", SELLER + "offers: [\n", 2, "arquivo", "Feche"),
    Case("a stray colon", "seller:\n  name: Loja: a boa\n", 2, "arquivo", "entre aspas"),
    Case("a wrong indent", "seller:\n    name: Loja\n  email: x\n", 3, "arquivo", "recuo"),
    Case("two documents", SELLER + "---\n" + SELLER, 2, "arquivo", "um só vendedor"),
    Case("an anchor", "seller: &a {name: Loja}\n", 1, "arquivo", "âncoras"),
    Case("an alias", SELLER + "gateways: *a\n", 2, "arquivo", "por extenso"),
    Case("a bomb", "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n", 1, "arquivo", "âncoras"),
    Case("a tag", "seller: !!python/object/apply:os.getcwd []\n", 1, "arquivo", "marcas de tipo"),
    Case("too deep", "a: " + "[" * 30 + "]" * 30, 1, "arquivo", "níveis"),
    Case("too many values", "a:\n" + "  - [[], [], [], []]\n" * 25_000, 20001, "arquivo", "100000 valores"),
    Case("a key twice", "seller:\n  name: A\n  email: a@b.co\n  name: B\n", 4, "seller.name", "Deixe uma só"),
    Case("a section twice", SELLER + "bots: []\n\nbots: []\n", 4, "bots", "duas vezes"),
    Case("a key that is a number", SELLER + "7: x\n", 2, "arquivo", "não é um texto"),
    # Keys
    Case("no seller", "offers: []\n", 1, "seller", "falta"),
    Case("no e-mail", "seller:\n  name: Loja\n", 1, "seller.email", "Acrescente email"),
    Case("a key misspelt", "seller:\n  name: L\n  email: a@b.co\n  timezon: X\n", 4, "seller.timezon", "timezone?"),
    Case("a section misspelt", SELLER + "ofers: []\n", 2, "ofers", "offers?"),
    Case("a key from nowhere", SELLER + "zzz: 1\n", 2, "zzz", "seller, gateways, offers"),
    Case("no price", delivered("{kind: link}"), 3, "offers[curso].delivers[1].url", "Acrescente url"),
    Case("a name with spaces around", offer(name='" Curso"'), 3, "offers[curso].name", "sem espaço nas pontas"),
    Case("a name too long", offer(name="x" * 65), 3, "offers[curso].name", "64 caracteres"),
    Case("a name on two lines", offer(name='"a\\nb"'), 3, "offers[curso].name", "em uma linha"),
    Case("a key in capitals", offer(key="Curso"), 3, "offers[Curso].key", "letras minúsculas"),
    Case("a key too long", offer(key="x" * 41), 3, f"offers[{'x' * 41}].key", "1 a 40"),
    Case("a key with a line break", offer(key='"curso\\n"'), 3, "offers[curso\n].key", "letras minúsculas"),
    Case("a key that is a number alone", offer(key="7"), 3, "offers[Curso].key", '"7"'),
    # Seller
    Case("no e-mail at all", "seller: {name: L, email: dona.example.com}", 1, "seller.email", "nome@exemplo.com"),
    Case("no such zone", SELLER.replace("}", ", timezone: Sampa}"), 1, "seller.timezone", "America/Sao_Paulo"),
    Case("a zone that is a path", SELLER.replace("}", ", timezone: ../etc/x}"), 1, "seller.timezone", "não existe"),
    Case("terms by script", SELLER.replace("}", ', terms_url: "javascript:x()"}'), 1, "seller.terms_url", "https"),
    Case("terms without TLS", SELLER.replace("}", ', terms_url: "http://a.b/c"}'), 1, "seller.terms_url", "https"),
    # Gateways
    Case("an unknown gateway", gateway("name: a, kind: acmee"), 3, "gateways[a].kind", "Use acme."),
    Case("an unknown credential", gateway("name: a, kind: acme, credentials: {tokem: x}"), 3, "gateways[a].credentials.tokem", "token?"),
    Case("another's credential", gateway("name: a, kind: bolt, credentials: {token: x}"), 3, "gateways[a].credentials.token", "app_id"),
    Case("an empty credential", gateway('name: a, kind: acme, credentials: {token: ""}'), 3, "gateways[a].credentials.token", "vazio"),
    Case("a credential with a space", gateway('name: a, kind: acme, credentials: {token: "x "}'), 3, "gateways[a].credentials.token", "sem espaços"),
    Case("a credential as a number", gateway("name: a, kind: acme, credentials: {token: 12}"), 3, "gateways[a].credentials.token", "entre aspas"),
    Case("weight zero", gateway("name: a, kind: acme, weight: 0"), 3, "gateways[a].weight", "1 a 1000"),
    Case("priority as text", gateway('name: a, kind: acme, priority: "1"'), 3, "gateways[a].priority", "número inteiro"),
    Case("active as a word", gateway("name: a, kind: acme, active: yes"), 3, "gateways[a].active", "true ou false"),
    Case("two of a name", gateway("name: a, kind: acme") + "  - {name: a, kind: bolt}\n", 4, "gateways[a].name", "acima"),
    Case("the sandbox's name", gateway("name: sandbox, kind: acme"), 3, "gateways[sandbox].name", "outro nome"),
    Case("only a sandbox for a true bot", gateway("name: t, kind: sandbox") + "bots:\n  - {key: v}\n", 5, "bots[v].test", "test: true"),
    # Offers
    Case("a price as a number", offer(price="49.9"), 3, "offers[curso].price", '"49.90"'),
    Case("a price as a whole number", offer(price="49"), 3, "offers[curso].price", "entre aspas"),
    Case("a price with a comma", offer(price='"49,90"'), 3, "offers[curso].price", '"49.90"'),
    Case("a price with one decimal", offer(price='"49.9"'), 3, "offers[curso].price", "dois decimais"),
    Case("a price with three decimals", offer(price='"49.900"'), 3, "offers[curso].price", "dois decimais"),
    Case("a price in other digits", offer(price='"٤٩.٩٠"'), 3, "offers[curso].price", "dois decimais"),
    Case("a price below zero", offer(price='"-1.00"'), 3, "offers[curso].price", "dois decimais"),
    Case("a price of nothing", offer(price='"0.00"'), 3, "offers[curso].price", "zero"),
    Case("a price beyond reason", offer(price='"99999999.00"'), 3, "offers[curso].price", "dois decimais"),
    Case("a price below the minimum", offer(price='"0.99"') + GATEWAY, 3, "offers[curso].price", 'ao menos "1.00"'),
    Case("nothing to deliver", offer(delivers="[]"), 3, "offers[curso].delivers", "ao menos um"),
    Case("delivers what is not", delivered("{kind: gift}"), 3, "offers[curso].delivers[1].kind", "link ou group"),
    Case("a link by script", delivered('{kind: link, url: "javascript:alert(1)"}'), 3, "offers[curso].delivers[1].url", "https"),
    Case("a link with a password", delivered('{kind: link, url: "https://a:b@c.example"}'), 3, "offers[curso].delivers[1].url", "https"),
    Case("a link with a space", delivered('{kind: link, url: "https://a.example/a b"}'), 3, "offers[curso].delivers[1].url", "https"),
    Case("a link with an address", delivered('{kind: link, url: "https://a.example", days: 3}'), 3, "offers[curso].delivers[1].days", "não cabe"),
    Case("a group above zero", delivered("{kind: group, chat_id: 1001}"), 3, "offers[curso].delivers[1].chat_id", "negativo"),
    Case("a group by name", delivered('{kind: group, chat_id: "@vip"}'), 3, "offers[curso].delivers[1].chat_id", "número inteiro"),
    Case("a group for no days", delivered("{kind: group, chat_id: -1, days: 0}"), 3, "offers[curso].delivers[1].days", "3650"),
    # Bots
    Case("a token cut off", bot("token: ABC"), 5, "bots[vendas].token", "@BotFather"),
    Case("a token with a line break", bot('token: "1:A\\n"'), 5, "bots[vendas].token", "@BotFather"),
    Case("a token twice", bot('token: "1:A"') + '  - {key: b, token: "1:A"}\n', 6, "bots[b].token", "outro bot"),
    Case("an offer that is not", bot("offers: [curs]"), 5, "bots[vendas].offers[1]", "curso?"),
    Case("an offer twice", bot("offers: [curso, curso]"), 5, "bots[vendas].offers", "repetidos"),
    Case("no minute", bot("pix_minutes: 0"), 5, "bots[vendas].pix_minutes", "1 a 1440"),
    Case("more than a day", bot("pix_minutes: 1441"), 5, "bots[vendas].pix_minutes", "1 a 1440"),
    Case("half a minute", bot("pix_minutes: 0.5"), 5, "bots[vendas].pix_minutes", "número inteiro"),
    Case("test as a word", bot("test: sim"), 5, "bots[vendas].test", "true ou false"),
    Case("another channel", bot("channel: pombo"), 5, "bots[vendas].channel", "telegram"),
    Case("a funnel without steps", bot("funnel: {start: a}"), 5, "bots[vendas].funnel.steps", "Acrescente"),
    Case("a funnel that starts nowhere", bot("funnel: {start: a, steps: {b: {text: Oi}}}"), 5, "bots[vendas].funnel.start", "steps"),
    # Links
    Case("a slug in capitals", SELLER + BOT + "links: [{slug: Promo, bot: vendas}]", 4, "links[Promo].slug", "minúsculas"),
    Case("a slug too long", SELLER + BOT + f"links: [{{slug: {'x' * 65}, bot: vendas}}]", 4, f"links[{'x' * 65}].slug", "64"),
    Case("a link to no bot", SELLER + OFFER + BOT + "links:\n  - {slug: a, bot: venda}\n", 7, "links[a].bot", "vendas?"),
    Case("a link in no mode", SELLER + OFFER + BOT + "links:\n  - {slug: a, bot: vendas, mode: pag}\n", 7, "links[a].mode", "page"),
    # Destinations
    Case("a pixel as a number", destination("pixel_id: 1234567890"), 5, "destinations[pixel].pixel_id", '"1234567890"'),
    Case("a pixel in words", destination("pixel_id: meu"), 5, "destinations[pixel].pixel_id", "número do pixel"),
    Case("a bot that is not", destination('pixel_id: "12345", bots: [venda]'), 5, "destinations[pixel].bots[1]", "vendas?"),
    Case("some bots", destination('pixel_id: "12345", bots: some'), 5, "destinations[pixel].bots", "all"),
]  # fmt: skip


def refused(text: str | bytes) -> tuple[Mistake, ...]:
    with pytest.raises(BadShop) as bad:
        read(text if isinstance(text, bytes) else text.encode())
    return bad.value.mistakes


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mistake_is_told_with_line_key_and_fix(case: Case) -> None:
    mistakes = refused(case.text)

    found = [mistake for mistake in mistakes if (mistake.line, mistake.key) == (case.line, case.key)]
    assert found, f"not at {case.line} {case.key}: {mistakes}"
    assert any(case.told in f"{mistake.problem} {mistake.fix}" for mistake in found), found
    assert all(mistake.problem and mistake.fix for mistake in mistakes)


def test_contract_example_is_read_as_it_stands() -> None:
    shop = read(SHOP.encode())

    assert shop.seller.email == "dona@example.com"
    assert [gateway.name for gateway in shop.gateways] == ["principal", "reserva"]
    assert [offer.price_cents for offer in shop.offers] == [4990, 2990]
    assert shop.offers[1].delivers == ({"kind": "group", "chat_id": -1001, "days": 30},)
    assert shop.bots[0].offers == ("curso", "vip")
    assert shop.links[0].mode == "redirect"
    assert shop.destinations[0].bots is None


def test_smallest_file_needs_only_the_seller() -> None:
    assert read(SELLER.encode()) == Shop(seller=read(SELLER.encode()).seller)


def test_empty_section_is_an_empty_list() -> None:
    assert read((SELLER + "gateways:\noffers:\n").encode()).gateways == ()


def test_every_mistake_is_told_at_once_in_the_order_of_the_file() -> None:
    text = (
        "seller: {name: L, email: nada}\n"
        "gateways:\n  - {name: a, kind: acme, weight: 0}\n"
        'offers:\n  - {key: B, name: x, price: 1.5, delivers: [{kind: link, url: "ftp://a.b"}]}\n'
        "bots:\n  - {key: v, offers: [nada]}\n"
        "links:\n  - {slug: promo, bot: w}\n"
    )

    assert [(mistake.line, mistake.key) for mistake in refused(text)] == [
        (1, "seller.email"),
        (3, "gateways[a].weight"),
        (5, "offers[B].delivers[1].url"),
        (5, "offers[B].key"),
        (5, "offers[B].price"),
        (7, "bots[v].offers[1]"),
        (9, "links[promo].bot"),
    ]


def test_price_never_passes_through_a_float() -> None:
    """0.29 x 100 is 28.999999999999996 in floats."""
    text = SELLER + "".join(
        f'{"offers:" if cents == 1 else ""}\n  - {{key: k{cents}, name: x, price: "{cents // 100}.{cents % 100:02d}",'
        ' delivers: [{kind: link, url: "https://a.example"}]}'
        for cents in range(1, 400)
    )

    assert [offer.price_cents for offer in read(text.encode()).offers] == list(range(1, 400))


def test_words_that_older_yaml_takes_for_something_else_are_texts() -> None:
    shop = read(b"seller: {name: no, email: a@b.co, support: 12:30:45, address: 2024-01-01}")

    assert (shop.seller.name, shop.seller.support, shop.seller.address) == ("no", "12:30:45", "2024-01-01")


def test_lowest_minimum_of_the_files_gateways_counts() -> None:
    text = offer(price='"0.50"') + GATEWAY + "  - {name: b, kind: bolt, credentials: {app_id: x}}\n"

    assert read(text.encode()).offers[0].price_cents == 50


def test_email_tells_who_the_seller_is_whatever_its_case() -> None:
    assert read(b"seller: {name: L, email: Dona@Example.COM}").seller.email == "dona@example.com"


def test_no_secret_is_in_a_mistake_or_a_repr() -> None:
    text = SHOP.replace("123456:ABC", "123456:ABC segredo-4")

    assert "segredo" not in str(refused(text))
    assert "segredo" not in repr(read(SHOP.encode()))


def test_byte_order_mark_is_no_mistake() -> None:
    assert read(b"\xef\xbb\xbf" + SELLER.encode()).seller.name == "Loja"


def test_file_is_loaded_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "loja.yaml"
    path.write_text(SHOP, encoding="utf-8")

    assert load(path).seller.name == "Loja Exemplo"


def assert_read_or_refused(content: bytes) -> None:
    mistakes: tuple[Mistake, ...] | None = None
    try:
        read(content)
    except BadShop as bad:
        mistakes = bad.mistakes

    assert mistakes is None or mistakes


TEXTS = st.text(alphabet="ab:-[]{},'\"\\#&*!|>%@`?\n \t01.~<uUx\x85\u2028é\U0001f600", max_size=40)


@given(st.one_of(TEXTS.map(str.encode), st.binary(max_size=40), TEXTS.map(lambda t: f"seller: {t}".encode())))
def test_whatever_comes_is_a_shop_or_a_refusal(content: bytes) -> None:
    assert_read_or_refused(content)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text("ab\x00", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["key", "kind", "a"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
SECTIONS = ["seller", "gateways", "offers", "bots", "links", "destinations"]
ENTRIES = st.dictionaries(
    st.sampled_from(["name", "key", "slug", "kind", "price", "delivers", "token", "offers", "bots", "bot", "funnel",
                     "credentials", "email", "timezone", "terms_url"]), VALUES, max_size=6)  # fmt: skip


@given(st.dictionaries(st.sampled_from(SECTIONS), st.one_of(VALUES, ENTRIES, st.lists(ENTRIES, max_size=3))))
def test_wrong_values_anywhere_are_a_refusal_and_never_a_crash(shop: dict[str, object]) -> None:
    assert_read_or_refused(json.dumps(shop).encode())


# The schema -------------------------------------------------------------------------------------------------------


def test_schema_is_a_valid_2020_12_schema() -> None:
    Draft202012Validator.check_schema(schema())


def test_schema_names_every_credential_of_every_gateway_kind() -> None:
    branches = schema()["properties"]["gateways"]["items"]["allOf"]

    named = {one["if"]["properties"]["kind"]["const"]: one["then"]["properties"]["credentials"] for one in branches}
    assert set(named) == {"acme", "bolt", "sandbox"}
    assert list(named["acme"]["properties"]) == ["token", "webhook_token"]
    assert named["sandbox"]["additionalProperties"] is False


def test_patterns_mean_the_same_to_editors() -> None:
    """JavaScript knows no \\Z and no inline flags; what is used is common to both."""
    patterns = re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(schema()))

    assert patterns
    assert not [pattern for pattern in patterns if re.search(r"\\\\[AZzhR]|\(\?[aiLmsux#P<]", pattern)]


def test_published_schema_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is not: python -m bot_manager.shop.schema > docs/shop.schema.json"""
    monkeypatch.undo()
    if not gateways.all_gateways():
        pytest.skip("no provider has arrived yet")

    published = Path(__file__).parents[1] / "docs" / "shop.schema.json"
    assert json.loads(published.read_text(encoding="utf-8")) == schema()


def test_example_of_the_docs_is_a_shop() -> None:
    text = (Path(__file__).parents[1] / "docs" / "shop-file.md").read_text(encoding="utf-8")
    example = re.findall(r"```yaml\n(seller:.*?)```", text, re.DOTALL)[0]

    shop = read(example.replace("pushinpay", "acme").replace("woovi", "bolt").encode())
    assert [offer.key for offer in shop.offers] == ["curso", "vip"]
