"""Comece aqui: from a first login to a bot that can be talked to, in one form."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_security import current_user
from flask_wtf import FlaskForm
from sqlalchemy.exc import IntegrityError
from wtforms import BooleanField, EmailField, StringField
from wtforms.validators import Email, InputRequired, Length

from bot_manager import sellers
from bot_manager.shop import example
from models import db
from web.panel import access

room = Blueprint("start", __name__, url_prefix="/comece", template_folder="../templates")


def _stripped(text: str | None) -> str | None:
    return text and text.replace("\0", "").strip()


class ShopForm(FlaskForm):  # type: ignore[misc]
    name = StringField(filters=[_stripped], validators=[InputRequired("Dê um nome à loja."), Length(max=80)])
    email = EmailField(
        filters=[_stripped],
        validators=[InputRequired("Escreva um e-mail."), Email("Este e-mail não parece certo."), Length(max=255)],
    )
    example = BooleanField(default=True)


@room.route("", methods=["GET", "POST"])
def index() -> ResponseReturnValue:
    if answer := access.require_user():
        return answer
    if access.shops_of(current_user.id) and not access.is_operator():
        return redirect(url_for("panel.index"))
    form = ShopForm(email=current_user.email)
    if form.validate_on_submit() and (made := _make(form)):
        return redirect(made)
    return render_template("panel/start.html", form=form), 422 if form.errors else 200


def _make(form: ShopForm) -> str | None:
    """The address of what was made; None, with the form saying why, when the e-mail has a shop already."""
    try:
        seller_id = sellers.create(form.name.data, form.email.data, owner=current_user).seller_id
        bot = example.add(seller_id) if form.example.data else None
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        form.email.errors = ["Já existe uma loja com este e-mail. Use outro."]
        return None
    if bot is None:
        return url_for("shop.home.index", seller_id=seller_id)
    return url_for("shop.chat.show", seller_id=seller_id, bot_id=bot.id)
