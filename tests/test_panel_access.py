"""Who gets in, where to, and what a browser is told on the way."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from bot_manager import sellers
from bot_manager.ops.postgres import Urls
from bot_manager.settings import Settings
from models import Door, DoorKind, User, db
from tests import panel_world
from tests.panel_world import PASSWORD, Cast, World, words
from web.panel import shop as shop_blueprint


def _sellers_routes(least_arguments: int = 1) -> list[tuple[str, str]]:
    app = Flask("routes", static_folder=None)
    app.register_blueprint(shop_blueprint)
    rules = [rule for rule in app.url_map.iter_rules() if len(rule.arguments) >= least_arguments]
    return sorted((rule.endpoint, method) for rule in rules for method in (rule.methods or set()) - {"HEAD", "OPTIONS"})


def _address(panel: World, cast: Cast, endpoint: str, seller_id: int) -> str:
    """An address at which ana finds something, or would, under the given seller."""
    with panel.acting(cast.shop):
        bot = db.session.get_one(panel_world.Bot, cast.shop.bot_id)
        offer = db.session.get_one(panel_world.Offer, cast.shop.offer_id)
        payment = panel_world.sale(panel_world.customer(bot, "Zé"), offer, None, "pending")
        values: dict[str, Any] = {"bot_id": bot.id, "payment_id": payment.payment_id, "message_id": 1}
        db.session.commit()
    with panel.app.test_request_context():
        adapter = panel.app.url_map.bind("localhost")
        rule = next(panel.app.url_map.iter_rules(endpoint))
        return adapter.build(endpoint, {key: values.get(key, seller_id) for key in rule.arguments})


@pytest.mark.parametrize(("endpoint", "method"), _sellers_routes())
def test_caio_finds_nothing_of_anas_shop(panel: World, cast: Cast, endpoint: str, method: str) -> None:
    """Whatever the address and the method, and whether or not the form is well made."""
    path = _address(panel, cast, endpoint, cast.shop.id)

    assert panel.client(cast.caio).client.open(path, method=method).status_code == 404


@pytest.mark.parametrize(("endpoint", "method"), _sellers_routes(least_arguments=2))
def test_caio_finds_nothing_of_anas_under_his_own_shop(panel: World, cast: Cast, endpoint: str, method: str) -> None:
    path = _address(panel, cast, endpoint, cast.other.id)
    caio = panel.client(cast.caio)

    answer = caio.post(path) if method == "POST" else caio.get(path)

    assert answer.status_code == 404


@pytest.mark.parametrize(("endpoint", "method"), _sellers_routes())
def test_nobody_gets_in_without_logging_in(panel: World, cast: Cast, endpoint: str, method: str) -> None:
    path = _address(panel, cast, endpoint, cast.shop.id)

    answer = panel.client().client.open(path, method=method)

    assert answer.status_code == 302
    assert answer.location.startswith("/login")


def test_staff_and_owner_see_the_shop(panel: World, cast: Cast) -> None:
    for email in (cast.ana, cast.bia):
        assert panel.client(email).get(f"/loja/{cast.shop.id}/").status_code == 200


def test_an_operator_sees_no_shop_that_is_not_theirs(panel: World, cast: Cast) -> None:
    assert panel.client(cast.olga).get(f"/loja/{cast.shop.id}/").status_code == 404


def test_a_shop_number_of_any_length_is_only_not_found(panel: World, cast: Cast) -> None:
    assert panel.client(cast.ana).get(f"/loja/{'9' * 60}/").status_code == 404
    assert panel.client(cast.ana).get(f"/loja/{cast.shop.id}/bots/{'9' * 60}/conversa").status_code == 404


def test_the_routes_are_those_we_know(panel: World) -> None:
    """Flask-Security brings routes of its own, in English; none may slip in."""
    ours = ("account.", "shop.", "operator.", "panel.", "start.", "health.", "intake.", "public.", "redirect.")
    ours += ("webhooks.",)
    others = {rule.endpoint for rule in panel.app.url_map.iter_rules() if not rule.endpoint.startswith(ours)}

    assert others == {"asset", "csp", "security.login", "security.logout"}


# Logging in and out -------------------------------------------------------------------------------------------------


def test_logging_in_leads_to_ones_own_shop(panel: World, cast: Cast) -> None:
    browser = panel.client()

    answer = browser.post("/login", {"email": cast.ana.upper(), "password": PASSWORD}, follow_redirects=True)

    assert f"/loja/{cast.shop.id}/" == answer.request.path


def test_logging_in_leads_back_to_where_one_wanted_to_go(panel: World, cast: Cast) -> None:
    browser, wanted = panel.client(), f"/loja/{cast.shop.id}/vendas?situacao=pagas"
    login = browser.get(wanted).location

    answer = browser.post(login, {"email": cast.ana, "password": PASSWORD, "next": wanted})

    assert wanted == answer.location


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example/", "/\\evil.example"])
def test_logging_in_never_leads_to_another_site(panel: World, cast: Cast, elsewhere: str) -> None:
    answer = panel.client().post("/login", {"email": cast.ana, "password": PASSWORD, "next": elsewhere})

    assert not (answer.location or "/").startswith(("http", "//", "/\\"))
    assert "evil" not in answer.text.replace("%5Cevil", "")


def test_a_wrong_password_and_an_unknown_email_sound_the_same(panel: World, cast: Cast) -> None:
    wrong = panel.client().post("/login", {"email": cast.ana, "password": "not this one"})
    unknown = panel.client().post("/login", {"email": "who@example.com", "password": "not this one"})

    assert "E-mail ou senha não conferem." in words(wrong)
    assert words(wrong) == words(unknown)


def test_logging_in_needs_the_csrf_field(panel: World, cast: Cast) -> None:
    answer = panel.client().client.post("/login", data={"email": cast.ana, "password": PASSWORD})

    assert answer.status_code == 400


def test_logging_out_takes_a_form_of_ours(panel: World, cast: Cast) -> None:
    browser = panel.client(cast.ana)

    assert browser.get("/logout").status_code == 405
    assert browser.client.post("/logout").status_code == 400
    assert browser.post("/logout").status_code == 302
    assert "/login" in browser.get(f"/loja/{cast.shop.id}/").location


def test_a_fragment_of_a_session_that_ended_sends_the_whole_page_to_the_login(panel: World, cast: Cast) -> None:
    answer = panel.client().get(f"/loja/{cast.shop.id}/ao-vivo", htmx=True)

    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/login")


def test_a_form_without_the_csrf_field_changes_nothing_and_says_so(panel: World, cast: Cast) -> None:
    ana = panel.client(cast.ana)

    answer = ana.client.post(
        f"/loja/{cast.shop.id}/bots/{cast.shop.bot_id}/conversa", data={"text": "oi"}, headers={"Accept": "text/html"}
    )

    assert answer.status_code == 400
    assert "Recarregue a página" in words(answer)


def test_cookies_are_kept_from_scripts_and_other_sites(panel: World, cast: Cast) -> None:
    answer = panel.client().post("/login", {"email": cast.ana, "password": PASSWORD, "remember": "y"})
    cookies = answer.headers.getlist("Set-Cookie")

    assert {cookie.partition("=")[0] for cookie in cookies} == {"panel"}
    assert all("HttpOnly" in cookie and "SameSite=Lax" in cookie and "Secure" not in cookie for cookie in cookies)


def test_on_https_cookies_and_headers_hold_to_https(panel_database: Urls, tmp_path: Any) -> None:
    settings = Settings(database_url=panel_database.app, keys_dir=tmp_path, public_url="https://shop.example.com")
    world = World(settings)

    answer = world.client().client.get("/login", base_url="https://shop.example.com")
    world.close()

    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
    assert answer.headers["Set-Cookie"].startswith("__Host-panel=")
    assert "Secure" in answer.headers["Set-Cookie"]


# Which shop ---------------------------------------------------------------------------------------------------------


def test_the_first_address_leads_to_the_shop_the_choice_or_the_start(panel: World, cast: Cast) -> None:
    assert f"/loja/{cast.shop.id}/" == panel.client(cast.ana).get("/").location
    assert panel.client(cast.olga).get("/").location == "/comece"
    assert panel.client().get("/").location == "/login"
    second = panel.shop("Segunda loja", cast.ana)
    ana = panel.client(cast.ana)
    choice = ana.get(ana.get("/").location)
    assert all(name in words(choice) for name in ("Clube da Receita", "Segunda loja"))
    assert f"/loja/{second.id}/" in choice.text
    assert "Loja do Caio" not in choice.text


# Invitations --------------------------------------------------------------------------------------------------------


def _invite(panel: World, cast: Cast, **changes: Any) -> str:
    with panel.acting(cast.shop):
        user = db.session.scalars(select(User).filter_by(email=cast.bia)).one()
        secret = sellers.invite(cast.shop.id, user.id)
        db.session.flush()
        door = db.session.get_one(Door, (DoorKind.INVITE, sellers.fingerprint(secret)))
        for name, value in changes.items():
            setattr(door, name, value)
        db.session.commit()
    return f"/convite/{secret}"


def test_an_invitation_sets_the_password_and_lets_in(panel: World, cast: Cast) -> None:
    path, browser = _invite(panel, cast), panel.client()

    assert cast.bia in browser.get(path).text
    answer = browser.post(path, {"password": "outra frase bem boa"}, follow_redirects=True)

    assert f"/loja/{cast.shop.id}/" == answer.request.path
    again = panel.client().post("/login", {"email": cast.bia, "password": "outra frase bem boa"})
    assert again.status_code == 302


def test_an_invitation_works_once(panel: World, cast: Cast) -> None:
    path = _invite(panel, cast)
    panel.client().post(path, {"password": "outra frase bem boa"})

    answer = panel.client().post(path, {"password": "a terceira frase"})

    assert answer.status_code == 410
    assert "Este convite não vale mais" in words(answer)
    assert panel.client().post("/login", {"email": cast.bia, "password": "outra frase bem boa"}).status_code == 302


def test_looking_at_an_invitation_does_not_use_it_up(panel: World, cast: Cast) -> None:
    path = _invite(panel, cast)

    assert [panel.client().get(path).status_code for _ in range(2)] == [200, 200]


def test_an_expired_or_made_up_invitation_is_told_kindly(panel: World, cast: Cast) -> None:
    expired = _invite(panel, cast, expires_at=datetime.now(UTC) - timedelta(seconds=1))

    for path in (expired, "/convite/made-up", "/convite/%00"):
        answer = panel.client().get(path)
        assert answer.status_code == 410
        assert "peça outro convite" in words(answer)


def test_a_short_password_is_refused_and_the_invitation_kept(panel: World, cast: Cast) -> None:
    path = _invite(panel, cast)

    answer = panel.client().post(path, {"password": "curta"})

    assert answer.status_code == 422
    assert "pelo menos 10 caracteres" in words(answer)
    assert panel.client().get(path).status_code == 200


def test_a_new_password_ends_older_sessions(panel: World, cast: Cast) -> None:
    bia, path = panel.client(cast.bia), _invite(panel, cast)
    panel.client().post(path, {"password": "outra frase bem boa"})

    assert "/login" in bia.get(f"/loja/{cast.shop.id}/").location


# Headers, errors, theme ---------------------------------------------------------------------------------------------


def test_every_answer_carries_the_strict_headers(panel: World, cast: Cast) -> None:
    for path in ("/login", "/no-such-page", f"/loja/{cast.shop.id}/"):
        headers = panel.client(cast.ana).get(path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "Strict-Transport-Security" not in headers


def test_pages_are_not_stored_and_files_are_stored_for_ever(panel: World, cast: Cast) -> None:
    browser = panel.client(cast.ana)
    page = browser.get(f"/loja/{cast.shop.id}/")
    style = page.text.split('<link rel="stylesheet" href="')[1].split('"')[0]

    with browser.client.get(style, headers={"Accept-Encoding": "gzip, br"}) as file:
        kept, packed, sniffed = (
            file.headers[name] for name in ("Cache-Control", "Content-Encoding", "X-Content-Type-Options")
        )

    assert page.headers["Cache-Control"] == "no-store"
    assert panel.client().get("/login").headers["Cache-Control"] == "no-store"
    assert "immutable" in kept
    assert (packed, sniffed) == ("gzip", "nosniff")


def test_reports_of_the_browser_are_logged_once(panel: World, caplog: pytest.LogCaptureFixture) -> None:
    report = {"csp-report": {"effective-directive": "img-src", "blocked-uri": "https://evil.example/a?token=1"}}
    send = panel.client().client.post
    with caplog.at_level(logging.WARNING):
        for body in (json.dumps(report), json.dumps(report), "[]", "no json"):
            assert send("/csp", data=body, content_type="application/csp-report").status_code == 204
        assert send("/csp", data="x" * 100_000, content_type="application/csp-report").status_code == 413

    told = [record for record in caplog.records if "content policy" in record.message]
    assert [(vars(record)["directive"], vars(record)["blocked"]) for record in told] == [
        ("img-src", "https:evil.example")
    ]


def test_an_unknown_page_is_told_in_the_house_style_with_its_number(panel: World) -> None:
    answer = panel.client().get("/no-such-page")

    assert answer.status_code == 404
    assert "Não encontramos esta página" in words(answer)
    assert "data-copy" in answer.text


def test_machines_get_no_page(panel: World) -> None:
    answer = panel.client().client.get("/no-such-page", headers={"Accept": "application/json"})

    assert answer.status_code == 404
    assert "Não encontramos" not in answer.text


def test_an_error_in_a_fragment_goes_to_the_notice_and_leaves_the_page(panel: World, cast: Cast) -> None:
    answer = panel.client(cast.ana).get(f"/loja/{cast.shop.id}/vendas?situacao=nada", htmx=True)

    assert answer.status_code == 404
    assert (answer.headers["HX-Retarget"], answer.headers["HX-Reswap"]) == ("#notice", "innerHTML")
    assert "<html" not in answer.text


def _breaking(panel: World, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def break_(*_: Any) -> None:
        raise error

    monkeypatch.setitem(panel.app.view_functions, "shop.home.index", break_)


def test_a_mistake_of_ours_is_a_calm_page(panel: World, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    _breaking(panel, monkeypatch, RuntimeError("secret detail"))

    answer = panel.client(cast.ana).get(f"/loja/{cast.shop.id}/")

    assert answer.status_code == 500
    assert "Nenhum pagamento se perde" in words(answer)
    assert "secret detail" not in answer.text


def test_a_database_that_is_away_is_said_to_come_back(
    panel: World, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    _breaking(panel, monkeypatch, OperationalError("select", {}, Exception("gone")))

    answer = panel.client(cast.ana).get(f"/loja/{cast.shop.id}/")

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "Estamos voltando" in words(answer)


@pytest.mark.parametrize(("theme", "links"), [("claro", 0), ("escuro", 1), ("auto", 1), ("nonsense", 1)])
def test_the_theme_is_chosen_by_a_form_and_kept(panel: World, theme: str, links: int) -> None:
    browser = panel.client()

    answer = browser.post("/tema", {"tema": theme, "volta": "/login"})
    page = browser.get(answer.location).text

    assert links == page.count("dark.css")
    assert ("prefers-color-scheme: dark" in page) == (theme in ("auto", "nonsense"))


@pytest.mark.parametrize("elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", ""])
def test_choosing_a_theme_leads_to_no_other_site(panel: World, elsewhere: str) -> None:
    assert panel.client().post("/tema", {"tema": "claro", "volta": elsewhere}).location == "/"
