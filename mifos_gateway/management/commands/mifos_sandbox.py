"""`manage.py mifos_sandbox --port N`: a stand-in MIFOS with faults on demand."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from mifos_gateway.sandbox.process import add_arguments
from mifos_gateway.sandbox.server import CannotListen, serve


class Command(BaseCommand):
    help = "Serve a stand-in MIFOS with faults on demand. Needs no database and no MIFOS_* settings."
    requires_system_checks: tuple[str, ...] = ()  # a reader runs it before anything else is configured

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            serve(options["host"], options["port"], die_with_parent=options["die_with_parent"])
        except CannotListen as error:
            raise CommandError(str(error)) from None
