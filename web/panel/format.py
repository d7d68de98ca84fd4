"""Money and time as Brazilians write them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from flask import Flask
from markupsafe import Markup

from web.panel.access import here

_WEEKDAYS = ("segunda-feira", "terça-feira", "quarta-feira", "quinta-feira", "sexta-feira", "sábado", "domingo")
_MONTHS = (
    *("janeiro", "fevereiro", "março", "abril", "maio", "junho"),
    *("julho", "agosto", "setembro", "outubro", "novembro", "dezembro"),
)


def set_up(app: Flask) -> None:
    app.jinja_env.filters.update(
        money=money,
        short_money=short_money,
        percent=percent,
        ago=lambda at: time_tag(at, ago(at, datetime.now(UTC), here())),
        clock=lambda at: time_tag(at, clock(at, here())),
        seconds=lambda at: time_tag(at, f"{at.astimezone(here()):%H:%M:%S}"),
        moment=lambda at: time_tag(at, moment(at, here())),
        day=day,
        web_address=web_address,
    )


def web_address(url: str) -> str:
    """The address, if it is one that a browser opens and does not run; "#" for any other."""
    return url if url.lower().startswith(("https://", "http://", "tg://")) else "#"


def money(cents: int) -> str:
    """184730 → "R$ 1.847,30", with a no-break space."""
    sign = "-" if cents < 0 else ""
    whole, rest = divmod(abs(cents), 100)
    return f"{sign}R$\u00a0{_thousands(whole)},{rest:02d}"


def short_money(cents: int) -> str:
    """For the axis of a chart: 250000 → "R$ 2.500"."""
    return f"R$\u00a0{_thousands(round(cents / 100))}"


def _thousands(number: int) -> str:
    return f"{number:,}".replace(",", ".")


def percent(part: int, whole: int) -> str:
    """37 of 54 → "69%"; a dash when there is nothing to divide."""
    return f"{round(100 * part / whole)}%" if whole else "–"


def ago(at: datetime, now: datetime, zone: ZoneInfo) -> str:
    seconds = (now - at).total_seconds()
    if seconds < 60:
        return "agora"
    if seconds < 3600:
        return f"há {int(seconds // 60)} min"
    if seconds < 24 * 3600:
        return f"há {int(seconds // 3600)} h"
    days = (now.astimezone(zone).date() - at.astimezone(zone).date()).days
    if days == 1:
        return "ontem"
    return f"há {days} dias" if days < 7 else f"{at.astimezone(zone):%d/%m/%Y}"


def clock(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%H:%M}"


def moment(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%d/%m/%Y %H:%M}"


def day(of: date) -> str:
    """2026-11-22 → "domingo, 22 de novembro"."""
    return f"{_WEEKDAYS[of.weekday()]}, {of.day} de {_MONTHS[of.month - 1]}"


def day_near(of: date, today: date) -> str:
    """The same, with today and yesterday by their names."""
    return {0: "Hoje", 1: "Ontem"}.get((today - of).days, day(of).capitalize())


def time_tag(at: datetime, text: str) -> Markup:
    full = f"{at.astimezone(here()):%d/%m/%Y %H:%M:%S}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(at.isoformat(timespec="seconds"), full, text)
