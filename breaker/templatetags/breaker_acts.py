"""What an act means for one of the breakers chosen."""

from __future__ import annotations

from django import template

from breaker.acting import note
from breaker.dashboard import Card

register = template.Library()


@register.filter
def before(card: Card, action: str) -> str:
    """What to know of it before the act; "" where there is nothing."""
    return note(action, card.entry)
