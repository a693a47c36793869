"""manage.py breaker: see the cluster's breakers and steer them."""

from __future__ import annotations

import getpass
import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from breaker import operations, queries
from breaker.engine.machine import State
from breaker.engine.stores.base import StoreError
from breaker.operations import ACTIONS, ActRefused, UnknownBreaker
from breaker.registry import registry

NONE_OPEN, ANY_OPEN, COULD_NOT_ASK = 0, 1, 2
COLUMNS = ("NAME", "STATE", "FORCED", "ERROR RATE", "FIRES", "FAILURES", "TIMEOUTS", "REJECTS", "P95 MS", "JUDGEMENT")


class Command(BaseCommand):
    help = "Show the breakers of the whole cluster, or reset, open, close, release, enable or disable them."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        status = verbs.add_parser("status", help="a table; exit 0 none open, 1 any open, 2 could not ask")
        status.add_argument("names", nargs="*", metavar="NAME", help="only these breakers")
        status.add_argument("--json", action="store_true", help="as the status endpoint's data")
        for action in ACTIONS:
            self._add_action(verbs, action)

    def _add_action(self, verbs: Any, action: str) -> None:
        verb = verbs.add_parser(action, help=f"{action} breakers in every worker")
        which = verb.add_mutually_exclusive_group(required=True)
        which.add_argument("names", nargs="*", default=[], metavar="NAME")
        which.add_argument("--all", action="store_true", help="every breaker")
        verb.add_argument("--reason", required=True, help="why, for those who read it later")
        verb.add_argument("--for", dest="for_seconds", type=float, metavar="SECONDS", help="default: until released")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["verb"] == "status":
                sys.exit(self._status(options["names"], as_json=options["json"]))
            self._act(options)
        except (UnknownBreaker, ActRefused) as error:
            raise CommandError(str(error), returncode=COULD_NOT_ASK) from error
        except StoreError as error:
            raise CommandError(f"the shared store could not be asked: {error}", returncode=COULD_NOT_ASK) from error
        except DatabaseError as error:
            message = f"acts are recorded in the database first, and it could not be asked: {error}"
            raise CommandError(message, returncode=COULD_NOT_ASK) from error

    # -- status ----------------------------------------------------------------------------------------------------

    def _status(self, names: Sequence[str], *, as_json: bool) -> int:
        status = queries.status(must_share=True)
        entries = list(status.entries)
        if names:
            operations.check_names(names)
            entries = [entry for entry in entries if entry.name in names]
        if as_json:
            shown = status.as_dict() if not names else {entry.name: entry.as_dict() for entry in entries}
            self.stdout.write(json.dumps(shown, indent=2))
        else:
            self._table([self._row(entry) for entry in entries])
        return ANY_OPEN if any(entry.standing.state is State.OPEN for entry in entries) else NONE_OPEN

    def _row(self, entry: queries.Entry) -> tuple[str, ...]:
        stats = entry.as_dict()["stats"]
        numbers = (stats["fires"], stats["failures"], stats["timeouts"], stats["rejects"], stats["percentiles"]["p95"])
        state = entry.state if entry.retry_after is None else f"{entry.state} ({entry.retry_after} s)"
        return (
            entry.name,
            state,
            entry.forced or "",
            stats["decidingErrorRate"],
            *(str(number) for number in numbers),
            entry.judgement,
        )

    def _table(self, rows: Sequence[tuple[str, ...]]) -> None:
        widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
        for row in (COLUMNS, *rows):
            self.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    # -- acts ------------------------------------------------------------------------------------------------------

    def _act(self, options: dict[str, Any]) -> None:
        if registry.sync.shared is None:
            message = "no shared store is configured (REDIS_URL): this command would steer only itself"
            raise CommandError(message, returncode=COULD_NOT_ASK)
        names = queries.known_names() if options["all"] else options["names"]
        done = operations.act(
            names,
            options["verb"],
            actor=_who(),
            source="command",
            reason=options["reason"],
            for_seconds=options["for_seconds"],
        )
        for one in done:
            if one.error:
                self.stderr.write(self.style.ERROR(f"{one.breaker}: failed, and will not be applied: {one.error}"))
            else:
                row = one.row
                until = f" until {queries.timestamp(row.until)}" if row.until else ""
                self.stdout.write(f"{one.breaker}: {row.state_before} -> {row.state_after} ({row.action}{until})")
        if any(one.error for one in done):
            raise CommandError("not every act was applied", returncode=COULD_NOT_ASK)


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # containers run under numbers that nobody has named
        return f"uid {os.getuid()}"
