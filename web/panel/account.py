"""Sua conta: where one is logged in, ending that, and a new password."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, g, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_security import current_user, login_user, logout_user
from flask_wtf import FlaskForm
from wtforms import PasswordField
from wtforms.validators import InputRequired

from bot_manager.security import logins
from bot_manager.security.logins import Why
from models import User, db
from web.panel import access, guesses, passwords
from web.panel.lookup import BIGGEST_ID

room = Blueprint("account", __name__, url_prefix="/conta", template_folder="../templates")

room.before_request(access.require_user)
room.before_request(access.csrf.protect)


class NewPasswordForm(FlaskForm):  # type: ignore[misc]
    old = PasswordField(validators=[InputRequired("Escreva a senha de hoje.")])
    password = access.password_field()


@room.get("")
def index() -> ResponseReturnValue:
    return _page(NewPasswordForm(formdata=None))


@room.post("/senha")
def password() -> ResponseReturnValue:
    """The old one is asked for, as at the login and as seldom: an open browser is not its owner."""
    form = NewPasswordForm()
    if not form.validate_on_submit():
        return _page(form), 422
    guesses.count_login(current_user.email.lower())
    if not passwords.fits(current_user, form.old.data):
        form.old.errors = ["Esta não é a senha de hoje."]
        return _page(form), 422
    guesses.forget_login(current_user.email.lower())
    user, stays = db.session.get_one(User, current_user.id), session.permanent
    passwords.change(user, form.password.data)
    db.session.commit()
    login_user(user, remember=stays, authn_via=["password"])
    return redirect(url_for(".index", feito="senha"), 303)


@room.post("/acessos/<int:login_id>/encerrar")
def end(login_id: int) -> ResponseReturnValue:
    """One of the user's own; this browser's is ended like a logout."""
    if login_id == g.login.id:
        return _leave()
    if login_id > BIGGEST_ID or not logins.end_one(current_user.id, login_id):
        abort(404)
    db.session.commit()
    return redirect(url_for(".index"), 303)


@room.post("/acessos/encerrar")
def end_all() -> ResponseReturnValue:
    """Everywhere, here too."""
    logins.end_all(current_user.id, Why.ELSEWHERE)
    return _leave()


def _leave() -> ResponseReturnValue:
    logout_user()
    return redirect(url_for("security.login"), 303)


def _page(form: Any) -> str:
    values = {"form": form, "logins": logins.of(current_user.id), "here": g.login}
    return render_template("panel/account.html", changed=request.args.get("feito") == "senha", **values)
