"""A breaker's card, rendered anew only when it shows something else."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.context import Context
from django.template.loader import get_template
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language

from breaker.dashboard import Card

register = template.Library()

Kept = dict[tuple[str, bool, str | None], tuple[tuple[object, ...], SafeString]]
"""By name, whether who looks may act, and language: what a card showed, and how that was written."""


@register.simple_tag(takes_context=True)
def breaker_card(context: Context, card: Card) -> SafeString:
    """The card's markup. Where the context has `kept`, one that shows the same facts comes from there."""
    kept: Kept | None = context.get("kept")
    key, facts = (card.name, context["operates"], get_language()), card.facts
    if kept is not None and key in kept and kept[key][0] == facts:
        return kept[key][1]
    shown: dict[str, Any] = {name: context.get(name) for name in ("operates", "now", "act_url")}
    html = mark_safe(get_template("breaker/card.html").render(shown | {"card": card}))  # noqa: S308 - a template's own
    if kept is not None:
        kept[key] = facts, html
    return html
