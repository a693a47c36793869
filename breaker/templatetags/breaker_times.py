"""Moments as the pages write them: in UTC, which the browser's script turns into the operator's own zone."""

from __future__ import annotations

from datetime import UTC, datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from breaker.queries import timestamp

register = template.Library()


def duration(seconds: float) -> str:
    """1 min 48 s: the two largest units. The script counts in the same words."""
    left = max(0, round(seconds))
    for size, unit, smaller, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if left >= size:
            rest = left % size // smaller
            return f"{left // size} {unit} {rest} {part}" if rest else f"{left // size} {unit}"
    return f"{left} s"


@register.simple_tag
def clock(moment: datetime) -> SafeString:
    """14:02:11, with the day where it is another."""
    return _time("clock", moment, f"{moment.astimezone(UTC):%H:%M:%S} UTC")


@register.simple_tag
def moment(moment: datetime) -> SafeString:
    """The same, with the day also where no script runs."""
    return _time("clock", moment, f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")


@register.simple_tag
def since(moment: datetime, now: datetime | None) -> SafeString:
    """How long ago; nothing without `now`: the script counts, and what is the same need not be sent again."""
    return _time("since", moment, duration((now - moment).total_seconds()) if now else "")


@register.simple_tag
def until(moment: datetime, now: datetime | None) -> SafeString:
    return _time("until", moment, duration((moment - now).total_seconds()) if now else "")


register.filter(duration)


def _time(kind: str, moment: datetime, text: str) -> SafeString:
    title = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<time datetime="{}" title="{}" data-time="{}">{}</time>', timestamp(moment), title, kind, text)
