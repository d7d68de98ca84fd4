"""Logins are rows: what ends one ends it for every copy of its cookie, at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask_login import encode_cookie
from sqlalchemy import event, select, update

from bot_manager import sellers
from bot_manager.security import logins
from bot_manager.settings import Settings
from models import Login, User, db
from tests.panel_world import PASSWORD, TOKEN, Browser, Cast, World, words
from web.panel.devices import around, device

PHONE = "Mozilla/5.0 (Linux; Android 14; SM-A546E) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36"


def log_in(panel: World, email: str, password: str = PASSWORD, **form: str) -> Browser:
    browser = panel.client()
    answer = browser.post("/login", {"email": email, "password": password, "remember": "y", **form})
    assert answer.status_code == 302, words(answer)
    return browser


def copy_of(panel: World, browser: Browser) -> Browser:
    """Somebody else's browser, with the same cookie."""
    thief = panel.client()
    thief.client.set_cookie("panel", cookie_of(browser))
    return thief


def cookie_of(browser: Browser) -> str:
    cookie = browser.client.get_cookie("panel")
    assert cookie
    return cookie.value


def is_in(browser: Browser, cast: Cast) -> bool:
    return browser.get(f"/loja/{cast.shop.id}/").status_code == 200


def rows(panel: World, email: str) -> list[Login]:
    with panel.app.app_context():
        mine = select(Login).join(User, User.id == Login.user_id).where(User.email == email).order_by(Login.id)
        return list(db.session.scalars(mine))


def change_user(panel: World, email: str, **values: Any) -> None:
    with panel.app.app_context():
        db.session.execute(update(User).where(User.email == email).values(**values))
        db.session.commit()


def test_a_login_is_a_row_that_tells_little(panel: World, cast: Cast) -> None:
    browser = panel.client()
    browser.client.environ_base.update(HTTP_USER_AGENT=PHONE, REMOTE_ADDR="203.0.113.77")
    browser.post("/login", {"email": cast.ana, "password": PASSWORD})

    (row,) = rows(panel, cast.ana)
    assert (row.device, row.network) == ("Chrome no Android", "203.0.113.0/24")
    assert row.token_hash not in cookie_of(browser)
    assert "203.0.113.77" not in str(vars(row))


def test_a_cookie_without_its_row_is_worth_nothing(panel: World, cast: Cast) -> None:
    ana = log_in(panel, cast.ana)
    assert is_in(ana, cast)

    with panel.app.app_context():
        db.session.query(Login).delete()
        db.session.commit()

    assert not is_in(ana, cast)


def test_logging_out_ends_every_copy_of_the_cookie(panel: World, cast: Cast) -> None:
    ana, elsewhere = log_in(panel, cast.ana), log_in(panel, cast.ana)
    thief = copy_of(panel, ana)
    assert is_in(thief, cast)

    ana.post("/logout")

    assert not is_in(thief, cast)
    assert is_in(elsewhere, cast)
    assert [row.why for row in rows(panel, cast.ana)] == ["logout", None]


def test_logging_out_everywhere_ends_all_of_ones_own_and_nobody_elses(panel: World, cast: Cast) -> None:
    here, there, bia = log_in(panel, cast.ana), log_in(panel, cast.ana), log_in(panel, cast.bia)

    assert here.post("/conta/acessos/encerrar").location == "/login"

    assert [is_in(one, cast) for one in (here, there, bia)] == [False, False, True]


def test_one_login_is_ended_from_another_browser(panel: World, cast: Cast) -> None:
    here, there = log_in(panel, cast.ana), log_in(panel, cast.ana)

    here.post(f"/conta/acessos/{rows(panel, cast.ana)[1].id}/encerrar")

    assert [is_in(one, cast) for one in (here, there)] == [True, False]


def test_nobody_ends_a_login_of_somebody_else(panel: World, cast: Cast) -> None:
    ana, caio = log_in(panel, cast.ana), log_in(panel, cast.caio)

    for number in (rows(panel, cast.ana)[0].id, 10**30):
        assert caio.post(f"/conta/acessos/{number}/encerrar").status_code == 404

    assert is_in(ana, cast)


def test_a_disabled_user_is_out_at_once(panel: World, cast: Cast) -> None:
    ana = log_in(panel, cast.ana)

    change_user(panel, cast.ana, active=False)

    assert not is_in(ana, cast)
    assert panel.client().post("/login", {"email": cast.ana, "password": PASSWORD}).status_code == 200
    change_user(panel, cast.ana, active=True)


def test_a_login_ends_when_nobody_was_there_for_two_weeks(panel: World, cast: Cast) -> None:
    ana = log_in(panel, cast.ana)
    with panel.later(timedelta(days=13)):
        assert is_in(ana, cast)
    with panel.later(timedelta(days=26)):
        assert is_in(ana, cast)

    with panel.later(timedelta(days=41)):
        assert not is_in(ana, cast)


def test_a_login_ends_after_ninety_days_however_busy(panel: World, cast: Cast) -> None:
    ana = log_in(panel, cast.ana)
    for days in range(10, 90, 10):
        with panel.later(timedelta(days=days)):
            assert is_in(ana, cast)

    with panel.later(timedelta(days=90)):
        assert not is_in(ana, cast)


def test_a_session_from_before_the_login_is_not_the_one_after(panel: World, cast: Cast) -> None:
    """A stranger who planted their own session in a browser has nothing when its owner logs in."""
    browser = panel.client()
    before = cookie_of(browser)
    planted = panel.client()
    planted.client.set_cookie("panel", before)

    browser.post("/login", {"email": cast.ana, "password": PASSWORD})

    assert cookie_of(browser) != before
    assert not is_in(planted, cast)
    with browser.client.session_transaction() as session:
        assert session.get("csrf_token") != TOKEN


def test_logging_in_again_in_the_same_browser_replaces_the_login(panel: World, cast: Cast) -> None:
    ana = log_in(panel, cast.ana)
    thief = copy_of(panel, ana)
    with ana.client.session_transaction() as session:
        del session["_user_id"]

    ana.post("/login", {"email": cast.ana, "password": PASSWORD})

    assert [row.why for row in rows(panel, cast.ana)] == ["replaced", None]
    assert (is_in(ana, cast), is_in(thief, cast)) == (True, False)


@pytest.mark.parametrize(("form", "kept"), [({"remember": "y"}, True), ({}, False)])
def test_staying_logged_in_is_chosen(panel: World, cast: Cast, form: dict[str, str], kept: bool) -> None:
    answer = panel.client().post("/login", {"email": cast.ana, "password": PASSWORD, **form})

    assert ("Expires=" in answer.headers["Set-Cookie"]) == kept


def test_no_other_cookie_and_no_token_lets_in(panel: World, cast: Cast) -> None:
    """Flask-Login's to be remembered by, and Flask-Security's tokens, know nothing of rows."""
    with panel.app.test_request_context():
        user = db.session.scalars(select(User).filter_by(email=cast.ana)).one()
        token, remembered = user.get_auth_token(), encode_cookie(user.fs_uniquifier)

    for name in ("remember_token", "remember"):
        stranger = panel.client()
        stranger.client.set_cookie(name, remembered)
        assert not is_in(stranger, cast)
    path = f"/loja/{cast.shop.id}/"
    assert panel.client().client.get(path, headers={"Authentication-Token": token}).status_code == 302
    assert panel.client().client.get(f"{path}?auth_token={token}").status_code == 302


# A new password -----------------------------------------------------------------------------------------------------


def change_password(browser: Browser, old: str, new: str) -> Any:
    return browser.post("/conta/senha", {"old": old, "password": new})


def test_a_new_password_ends_the_other_logins_and_renews_this_one(panel: World, cast: Cast) -> None:
    here, there = log_in(panel, cast.ana), log_in(panel, cast.ana)
    thief = copy_of(panel, here)

    answer = change_password(here, PASSWORD, "outra frase bem boa")

    assert answer.location == "/conta?feito=senha"
    assert "Todos os outros aparelhos foram desconectados" in words(here.get(answer.location))
    assert [is_in(one, cast) for one in (here, there, thief)] == [True, False, False]
    assert [row.why for row in rows(panel, cast.ana)] == ["password", "password", None]
    log_in(panel, cast.ana, "outra frase bem boa")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("not this one", "outra frase bem boa", "Esta não é a senha de hoje."),
        ("", "outra frase bem boa", "Escreva a senha de hoje."),
        (PASSWORD, "curta", "pelo menos 10 caracteres"),
        (PASSWORD, "", "Escolha uma senha."),
    ],
)
def test_a_password_is_changed_by_whoever_knows_the_old_one(
    panel: World, cast: Cast, old: str, new: str, said: str
) -> None:
    here, there = log_in(panel, cast.ana), log_in(panel, cast.ana)

    answer = change_password(here, old, new)

    assert (answer.status_code, said in words(answer)) == (422, True)
    assert is_in(there, cast)
    log_in(panel, cast.ana)


def test_the_old_password_is_guessed_in_an_open_browser_as_seldom_as_at_the_login(panel: World, cast: Cast) -> None:
    here = log_in(panel, cast.ana)

    codes = [change_password(here, f"guess {n}", "outra frase bem boa").status_code for n in range(11)]

    assert codes == [422] * 10 + [429]
    assert change_password(here, PASSWORD, "outra frase bem boa").status_code == 429
    with panel.later(timedelta(minutes=1)):
        assert change_password(here, PASSWORD, "outra frase bem boa").status_code == 303


# The room -----------------------------------------------------------------------------------------------------------


def test_the_account_shows_each_login_and_marks_this_one(panel: World, cast: Cast) -> None:
    there = panel.client()
    there.client.environ_base.update(HTTP_USER_AGENT=PHONE, REMOTE_ADDR="2001:db8:7:1::9")
    there.post("/login", {"email": cast.ana, "password": PASSWORD})
    here = log_in(panel, cast.ana)

    said = words(here.get("/conta"))

    assert "Chrome no Android Rede 2001:db8:7:…" in said
    assert said.count("este aparelho") == 1
    assert "Rede 127.0.0.•••" in said


@pytest.mark.parametrize("path", ["/conta", "/conta/senha", "/conta/acessos/encerrar", "/conta/acessos/1/encerrar"])
def test_the_account_is_only_for_who_is_logged_in(panel: World, cast: Cast, path: str) -> None:
    stranger = panel.client()
    answer = stranger.get(path) if path == "/conta" else stranger.post(path)

    assert answer.status_code == 302
    assert answer.location.startswith("/login")


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (PHONE, "Chrome no Android"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/130.0 Safari/537.36 Edg/130.0", "Edge no Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Safari/604.1", "Safari no iPhone"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:132.0) Firefox/132.0", "Firefox no Mac"),
        ("<script>alert(1)</script>", "Navegador desconhecido"),
        ("", "Navegador desconhecido"),
    ],
)
def test_a_browser_has_a_name_its_owner_knows(agent: str, name: str) -> None:
    assert device(agent) == name


def test_a_network_is_shown_by_its_beginning() -> None:
    assert around(logins.network("203.0.113.9")) == "203.0.113.•••"
    assert around(logins.network("2001:db8:7:1::9")) == "2001:db8:7:…"
    assert logins.network("no address") == ""


# What it costs ------------------------------------------------------------------------------------------------------


def writes(panel: World, browser: Browser, path: str) -> list[str]:
    found: list[str] = []
    with panel.app.app_context():
        engine = db.engine

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lower().startswith(("insert", "update", "delete")):
            found.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    browser.get(path)
    event.remove(engine, "before_cursor_execute", note)
    return found


def test_being_there_is_written_once_in_some_minutes(panel: World, cast: Cast) -> None:
    ana, path = log_in(panel, cast.ana), f"/loja/{cast.shop.id}/"

    assert writes(panel, ana, path) == []
    with panel.later(timedelta(minutes=6)):
        assert len(writes(panel, ana, path)) == 1
        assert writes(panel, ana, path) == []


def test_a_cookie_is_sent_when_it_changes_and_not_with_each_answer(panel: World, cast: Cast) -> None:
    ana = log_in(panel, cast.ana)
    answers = [ana.get(f"/loja/{cast.shop.id}/") for _ in range(2)]

    assert ["Set-Cookie" in answer.headers for answer in answers] == [True, False]


def test_old_logins_are_dropped_but_for_a_users_last(app: Flask, settings: Settings) -> None:
    user = User(email="ana@example.com", fs_uniquifier="u")
    db.session.add(user)
    db.session.flush()
    for days in (181, 182):
        logins.begin(user.id, "Chrome", "127.0.0.1")
        db.session.flush()
        age = update(Login).where(Login.id == select(db.func.max(Login.id)).scalar_subquery())
        db.session.execute(age.values(created_at=Login.created_at - timedelta(days=days)))
    logins.drop_old_logins(db.session.connection())

    assert len(db.session.scalars(select(Login.id)).all()) == 1
    assert not sellers.nobody_came("ana@example.com")
