"""End a consumer's access, or one of its tokens."""

import difflib
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from mifos_gateway import tokens
from mifos_gateway.models import Consumer


class Command(BaseCommand):
    help = (
        "Revoke the consumer NAME with all of its tokens, or with --token that one alone; "
        "effective in every process within 10 seconds."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument(
            "--token", metavar="PREFIX", help="the token's beginning as `list_consumers` shows it; the others stay"
        )

    def handle(self, *, name: str, token: str | None, **_: Any) -> None:
        consumer = Consumer.objects.filter(name=name).first()
        if consumer is None:
            raise CommandError(_unknown(name))
        if token is not None:  # an empty one, of a script's empty variable, is an error and not all of them
            self._revoke_one(consumer, token)
            return
        ended = tokens.revoke(consumer)
        self.stdout.write(f"{name} is revoked with {ended} token{'' if ended == 1 else 's'}, everywhere within 10 s.")

    def _revoke_one(self, consumer: Consumer, meant: str) -> None:
        try:
            chosen = tokens.choose(consumer, meant)
        except tokens.TokenLookupError as error:
            raise CommandError(f"--token: {error}") from None
        tokens.revoke_token(chosen)
        left = consumer.tokens.filter(revoked_at=None).count()
        self.stdout.write(f"{chosen} of {consumer} is revoked, everywhere within 10 s; {left} not revoked.")


def _unknown(name: str) -> str:
    names = list(Consumer.objects.values_list("name", flat=True))
    closest = difflib.get_close_matches(name, names, n=1, cutoff=0)
    if not closest:
        return f"There is no consumer {name!r}; there are none at all."
    return f"There is no consumer {name!r}; the closest is {closest[0]!r}. `manage.py list_consumers` shows all."
