"""List the consumers and what they may; never a token."""

from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from mifos_gateway.models import Consumer

HEADINGS = ("NAME", "STATE", "MAY CALL", "ROUTES", "TOKENS", "NEXT EXPIRY", "LAST USED")


class Command(BaseCommand):
    help = "List the consumers: who they are, what they may call, and how many live tokens they have."

    def handle(self, **_: Any) -> None:
        now = timezone.now()
        rows = [HEADINGS, *(row(consumer, now) for consumer in Consumer.objects.prefetch_related("tokens"))]
        widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEADINGS))]
        for cells in rows:
            self.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def row(consumer: Consumer, now: datetime) -> tuple[str, ...]:
    all_tokens = list(consumer.tokens.all())
    live = [token for token in all_tokens if not token.revoked_at and (not token.expires_at or token.expires_at > now)]
    return (
        consumer.name,
        "revoked" if consumer.revoked_at else "live",
        ", ".join(consumer.scopes) or "-",
        ", ".join(consumer.allow) or "all",
        f"{0 if consumer.revoked_at else len(live)} live",
        _when(min((token.expires_at for token in live if token.expires_at), default=None)),
        _when(max((token.last_used_at for token in all_tokens if token.last_used_at), default=None)),
    )


def _when(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%MZ") if at else "-"
