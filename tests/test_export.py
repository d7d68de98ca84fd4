"""What is exported, applied again, changes nothing; and it holds no secret."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.engine import Engine

from bot_manager.shop.apply import apply
from bot_manager.shop.commands import main_export
from bot_manager.shop.export import NoSuchSeller, _flow, export
from bot_manager.shop.file import read
from bot_manager.shop.lines import parse
from models import ROW_SECURED, Bot, db
from tests.shop_cast import SHOP

pytestmark = pytest.mark.usefixtures("providers")

WITHOUT_SECRETS = (
    SHOP.replace(', credentials: {token: "segredo-1"}', "")
    .replace(', credentials: {app_id: "segredo-2"}', "")
    .replace('token: "123456:ABC", ', "")
    .replace('access_token: "segredo-3", ', "")
)


def done(shop: str = SHOP) -> dict[str, Any]:
    db.session.remove()
    told = apply(read(shop.encode()))
    db.session.commit()
    db.session.remove()
    return told


def written(owner: Engine) -> dict[str, list[tuple[str, ...]]]:
    """Which transaction wrote each row."""
    with owner.begin() as connection:
        return {
            table: sorted(map(tuple, connection.execute(text(f'select xmin::text, ctid::text from "{table}"'))))
            for table in (*ROW_SECURED, "door", "procrastinate_jobs")
        }


@pytest.mark.usefixtures("app")
def test_export_is_the_file_that_was_applied_without_its_secrets() -> None:
    done()

    exported = export("dona@example.com")

    assert yaml.safe_load(exported) == yaml.safe_load(WITHOUT_SECRETS)
    assert "segredo" not in exported
    assert "123456" not in exported.replace('"1234567890"', "").replace("'1234567890'", "")


@pytest.mark.usefixtures("app")
def test_keys_stand_in_the_order_of_the_contract() -> None:
    done()

    ours, contract = yaml.safe_load(export("dona@example.com")), yaml.safe_load(WITHOUT_SECRETS)

    assert list(ours) == list(contract)
    for section in ("gateways", "offers", "bots", "links", "destinations"):
        assert [list(entry) for entry in ours[section]] == [list(entry) for entry in contract[section]]
    for offer, expected in zip(ours["offers"], contract["offers"], strict=True):
        assert [list(item) for item in offer["delivers"]] == [list(item) for item in expected["delivers"]]


@pytest.mark.usefixtures("app")
def test_export_applied_again_writes_nothing(owner: Engine) -> None:
    done()
    before = written(owner)

    done(export("dona@example.com"))

    assert written(owner) == before


@pytest.mark.usefixtures("app")
def test_what_is_archived_or_ours_is_not_exported() -> None:
    done()
    done(SHOP[: SHOP.index("gateways:")])

    exported = yaml.safe_load(export("dona@example.com"))

    assert {section: exported[section] for section in exported if section != "seller"} == {
        "gateways": [], "offers": [], "bots": [], "links": [], "destinations": [],
    }  # fmt: skip


@pytest.mark.usefixtures("app")
def test_links_and_destinations_of_a_bot_archived_elsewhere_do_not_break_the_file() -> None:
    done(SHOP.replace("bots: all", "bots: [vendas]"))
    apply(read(SHOP.encode()))  # acts for the seller
    bot = db.session.scalars(select(Bot)).one()
    bot.archived_at = bot.created_at
    db.session.commit()

    read(export("dona@example.com").encode())


@pytest.mark.usefixtures("app")
def test_other_sellers_things_are_not_exported() -> None:
    done()
    done(SHOP.replace("dona@", "outra@").replace("123456:ABC", "7:Z").replace("slug: promo", "slug: outra"))

    assert "promo" not in export("outra@example.com")


@pytest.mark.usefixtures("app")
def test_unknown_seller_is_said_and_not_invented(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NoSuchSeller):
        export("ninguem@example.com")

    assert main_export("ninguem@example.com") == 1
    said = capsys.readouterr()
    assert (said.out, "ninguem@example.com" in said.err) == ("", True)


@pytest.mark.usefixtures("app")
def test_command_prints_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    done()

    assert main_export("DONA@example.com") == 0
    assert capsys.readouterr().out == export("dona@example.com")


HARD_TEXTS = [
    "no", "08", "0x1F", "1e3", "1_000", "12:30:45", "2024-01-01", "~", "null", "True", "=", "<<", "- a", "a: b", "a #b",
    "'", '"', "\\", "{a}", "[b]", "&a", "*a", "!a", "|", ">", "%", "@", "`", "ção", "😀", "?", "-", ",", ".5", "+1", "١",
]  # fmt: skip


@pytest.mark.usefixtures("app")
def test_texts_that_look_like_yaml_come_back_as_they_were(owner: Engine) -> None:
    """The writer and our reader have different ideas of what a number is; neither may bend a text."""
    offers = [
        {"key": f"o{n}", "name": name, "price": "1.00", "delivers": [{"kind": "link", "url": "https://a.example"}]}
        for n, name in enumerate(HARD_TEXTS)
    ]
    done(yaml.safe_dump({"seller": {"name": "L", "email": "dona@example.com"}, "offers": offers}, allow_unicode=True))
    before = written(owner)

    exported = export("dona@example.com")

    assert [offer.name for offer in read(exported.encode()).offers] == HARD_TEXTS
    done(exported)
    assert written(owner) == before


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from("0123456789.-+:xeE_~")))
def test_our_reader_takes_every_text_that_the_writer_writes(words: str) -> None:

    assert parse(_flow({"a": words, "b": [words]}).encode()).value == {"a": words, "b": [words]}
