"""End a consumer's access."""

import difflib
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from mifos_gateway import tokens
from mifos_gateway.models import Consumer


class Command(BaseCommand):
    help = "Revoke the consumer NAME with all of its tokens; effective in every process within 10 seconds."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME")

    def handle(self, *, name: str, **_: Any) -> None:
        consumer = Consumer.objects.filter(name=name).first()
        if consumer is None:
            raise CommandError(_unknown(name))
        ended = tokens.revoke(consumer)
        self.stdout.write(f"{name} is revoked with {ended} token{'' if ended == 1 else 's'}, everywhere within 10 s.")


def _unknown(name: str) -> str:
    names = list(Consumer.objects.values_list("name", flat=True))
    closest = difflib.get_close_matches(name, names, n=1, cutoff=0)
    if not closest:
        return f"There is no consumer {name!r}; there are none at all."
    return f"There is no consumer {name!r}; the closest is {closest[0]!r}. `manage.py list_consumers` shows all."
