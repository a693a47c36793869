"""`manage.py deliver_deferred`: sends deferred requests to MIFOS as soon as it takes them."""

import signal
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from mifos_gateway.outbox.runner import Runner


class Command(BaseCommand):
    help = (
        "Sends deferred requests to MIFOS when their circuit is closed, in order, until it is stopped (SIGTERM, "
        "Ctrl-C: what is under way is finished). Run one at least; with PostgreSQL any number on any number of hosts."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="end when nothing that can be sent is due")
        parser.add_argument("--threads", type=int, help="at most so many at once (GATEWAY_DEFERRED_THREADS)")
        parser.add_argument("--rate", type=float, help="at most so many per second (GATEWAY_DEFERRED_RATE)")

    def handle(self, *args: Any, **options: Any) -> None:
        for name in ("threads", "rate"):
            if options[name] is not None and options[name] <= 0:
                raise CommandError(f"--{name} {options[name]}: more than 0 is needed")
        runner = Runner(threads=options["threads"], rate=options["rate"])
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: runner.stop())
        self.stdout.write("Delivering deferred requests.")
        self.stdout.flush()
        ended = runner.run(once=options["once"])
        self.stdout.write(f"Ended: {ended}.")
