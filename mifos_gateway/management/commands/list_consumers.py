"""List the consumers and what they may, and their tokens by how they begin; never a token."""

from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from mifos_gateway.models import Consumer, Token

TOKEN_HEADINGS = ("TOKEN", "CONSUMER", "STATE", "CREATED", "EXPIRES", "LAST USED", "REVOKED")
HEADINGS = ("NAME", "STATE", "MAY CALL", "ROUTES", "TOKENS", "NEXT EXPIRY", "LAST USED")


class Command(BaseCommand):
    help = "List the consumers: who they are, what they may call, and by how they begin their tokens."

    def handle(self, **_: Any) -> None:
        now = timezone.now()
        consumers = Consumer.objects.prefetch_related("tokens")
        self._write_table([HEADINGS, *(row(consumer, now) for consumer in consumers)])
        self.stdout.write()
        rows = [token_row(token, consumer, now) for consumer in consumers for token in consumer.tokens.all()]
        self._write_table([TOKEN_HEADINGS, *rows])

    def _write_table(self, rows: list[tuple[str, ...]]) -> None:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
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


def token_row(token: Token, consumer: Consumer, now: datetime) -> tuple[str, ...]:
    is_expired = token.expires_at is not None and token.expires_at <= now
    return (
        str(token),
        consumer.name,
        "revoked" if token.revoked_at else "expired" if is_expired else "live",
        _when(token.created_at),
        _when(token.expires_at),
        _when(token.last_used_at),
        _when(token.revoked_at),
    )


def _when(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%MZ") if at else "-"
