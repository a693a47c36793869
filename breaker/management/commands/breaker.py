"""manage.py breaker: see the cluster's breakers and steer them."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from breaker import conf, operations, queries, timeline
from breaker.engine.machine import State
from breaker.engine.stores.base import StoreError
from breaker.management.shell import table, who, write_to_nobody
from breaker.models import BreakerEvent
from breaker.operations import ACTIONS, ActRefused, UnknownBreaker
from breaker.registry import registry
from breaker.timeline import BadSpan

NONE_OPEN, ANY_OPEN, COULD_NOT_ASK = 0, 1, 2
COLUMNS = ("NAME", "STATE", "FORCED", "ERROR RATE", "FIRES", "FAILURES", "TIMEOUTS", "REJECTS", "P95 MS", "JUDGEMENT")
EVENT_COLUMNS = ("AT (UTC)", "BREAKER", "WHAT", "LASTED BEFORE", "BY", "WHY")
POINT_COLUMNS = ("FROM (UTC)", "FIRES", "FAILURES", "TIMEOUTS", "REJECTS", "MEAN MS", "P95 MS", "P99 MS", "OPEN S")
CLEAR = "\x1b[H\x1b[2J"
MOST_EVENTS = 10_000


class Command(BaseCommand):
    help = "Show the cluster's breakers, now or in the past, or reset, open, close, release, enable or disable them."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        status = verbs.add_parser("status", help="a table; exit 0 none open, 1 any open, 2 could not ask")
        status.add_argument("names", nargs="*", metavar="NAME", help="only these breakers")
        status.add_argument("--json", action="store_true", help="as the status endpoint's data")
        watch = verbs.add_parser("watch", help="the table again and again, until Ctrl-C")
        watch.add_argument("names", nargs="*", metavar="NAME", help="only these breakers")
        watch.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="default: 1")
        watch.add_argument("--times", type=int, metavar="N", help="end after so many tables")
        past = verbs.add_parser("history", help="what happened, and with a NAME how available it was and its numbers")
        past.add_argument("name", nargs="?", metavar="NAME")
        past.add_argument(
            "--since", default="24h", metavar="WHEN", help="a time, or how long ago: 24h, 15m; default 24h"
        )
        past.add_argument("--json", action="store_true", help="events, summary and points as the REST API has them")
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
        code = NONE_OPEN
        try:
            match options["verb"]:
                case "status":
                    code = self._status(options["names"], as_json=options["json"])
                case "watch":
                    with contextlib.suppress(KeyboardInterrupt):  # how it is ended
                        self._watch(options["names"], every=options["every"], times=options["times"])
                case "history":
                    self._history(options["name"], since=options["since"], as_json=options["json"])
                case _:
                    self._act(options)
            self.stdout.flush()
        except BrokenPipeError:  # who reads has enough, such as `head`
            write_to_nobody()
        except (UnknownBreaker, ActRefused, BadSpan) as error:
            raise CommandError(str(error), returncode=COULD_NOT_ASK) from error
        except StoreError as error:
            raise CommandError(f"the shared store could not be asked: {error}", returncode=COULD_NOT_ASK) from error
        except DatabaseError as error:
            message = f"the database, which keeps acts and history, could not be asked: {error}"
            raise CommandError(message, returncode=COULD_NOT_ASK) from error
        if code:
            sys.exit(code)

    # -- status ----------------------------------------------------------------------------------------------------

    def _status(self, names: Sequence[str], *, as_json: bool) -> int:
        status, entries = self._entries(names)
        if as_json:
            shown = status.as_dict() if not names else {entry.name: entry.as_dict() for entry in entries}
            self.stdout.write(json.dumps(shown, indent=2))
        else:
            table(self.stdout, COLUMNS, [self._row(entry) for entry in entries])
        return ANY_OPEN if any(entry.standing.state is State.OPEN for entry in entries) else NONE_OPEN

    def _entries(self, names: Sequence[str]) -> tuple[queries.Status, list[queries.Entry]]:
        status = queries.status(must_share=True)
        if not names:
            return status, list(status.entries)
        operations.check_names(names)
        return status, [entry for entry in status.entries if entry.name in names]

    def _watch(self, names: Sequence[str], *, every: float, times: int | None) -> None:
        """In a terminal each table takes the place of the one before. A store that is away is said, and asked again."""
        if not every > 0:
            raise CommandError(f"--every is {every:g}; seconds above 0 are needed", returncode=COULD_NOT_ASK)
        shown = 0
        while times is None or shown < times:
            if shown:
                time.sleep(every)
            shown += 1
            rows, said = [], ""
            try:
                status, entries = self._entries(names)
                rows = [self._row(entry) for entry in sorted(entries, key=_by_trouble)]
                said = f"{queries.timestamp(status.at)}, {_counted(len(entries), 'breaker')}"
            except StoreError as error:
                said = f"the shared store could not be asked: {error}"
            if self.stdout.isatty():
                self.stdout.write(CLEAR, ending="")
            self.stdout.write(said)
            if rows:
                table(self.stdout, COLUMNS, rows)
            self.stdout.flush()

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

    # -- history ---------------------------------------------------------------------------------------------------

    def _history(self, name: str | None, *, since: str, as_json: bool) -> None:
        until = timeline.now()
        began = timeline.moment("--since", since)
        if name is not None and not timeline.knows(name):
            operations.check_names([name])
        happened = timeline.events(name).filter(at__gte=began)
        points = timeline.history(name, began, until) if name is not None else []
        summary = timeline.summary(name, began, until) if name is not None else None
        newest = list(happened[:MOST_EVENTS])
        if as_json:
            shown: dict[str, Any] = {"from": queries.timestamp(began), "to": queries.timestamp(until)}
            if summary is not None:
                shown |= {"breaker": name, "summary": summary.as_dict(), "history": [one.as_dict() for one in points]}
            self.stdout.write(json.dumps(shown | {"events": [timeline.as_dict(event) for event in newest]}, indent=2))
            return
        if summary is not None:
            self.stdout.write(_in_words(name or "", summary))
            counted = [point for point in points if point.totals.fires or point.seconds_open]
            table(self.stdout, POINT_COLUMNS, [_point_row(point) for point in counted])
            self.stdout.write("")
        if newest:
            table(self.stdout, EVENT_COLUMNS, [_event_row(event) for event in reversed(newest)])
        else:
            self.stdout.write(f"Nothing happened since {queries.timestamp(began)}.")

    # -- acts ------------------------------------------------------------------------------------------------------

    def _act(self, options: dict[str, Any]) -> None:
        if registry.sync.shared is None:
            message = f"{conf.no_store()}: this command would steer only itself"
            raise CommandError(message, returncode=COULD_NOT_ASK)
        names = queries.known_names() if options["all"] else options["names"]
        done = operations.act(
            names,
            options["verb"],
            actor=who(),
            source="command",
            reason=options["reason"],
            for_seconds=options["for_seconds"],
        )
        for one in done:
            row = one.row
            if row.status == row.Status.FAILED:
                self.stderr.write(self.style.ERROR(f"{one.breaker}: failed, and will not be applied: {one.error}"))
            else:
                if one.error:
                    self.stderr.write(self.style.WARNING(f"{one.breaker}: done, but {one.error}"))
                until = f" until {queries.timestamp(row.until)}" if row.until else ""
                self.stdout.write(f"{one.breaker}: {row.state_before} -> {row.state_after} ({row.action}{until})")
        if any(one.row.status == one.row.Status.FAILED for one in done):
            raise CommandError("not every act was applied", returncode=COULD_NOT_ASK)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _by_trouble(entry: queries.Entry) -> tuple[int, str]:
    order = (State.OPEN, State.HALF_OPEN, State.CLOSED)
    return order.index(entry.standing.state), entry.name


def _in_words(name: str, summary: timeline.Summary) -> str:
    said = f"{name}: {summary.availability:.3f} % available, opened {_counted(summary.openings, 'time')}"
    if summary.openings:
        said += f", OPEN for {_span(summary.seconds_open)} in all, longest outage {_span(summary.longest_outage)}"
    if summary.mean_time_to_recovery is not None:
        said += f", recovered in {_span(summary.mean_time_to_recovery)} on average"
    return said + "."


def _point_row(point: timeline.Point) -> tuple[str, ...]:
    shown = point.as_dict()
    numbers = ("fires", "failures", "timeouts", "rejects", "latencyMean", "p95", "p99", "secondsOpen")
    return (f"{point.at:%Y-%m-%d %H:%M}", *(f"{shown[number]:g}" for number in numbers))


def _event_row(event: BreakerEvent) -> tuple[str, ...]:
    what = event.to_state if event.kind == event.Kind.TRANSITION else f"{event.operation} -> {event.to_state}"
    why = event.reason or " ".join(f"{key}={value}" for key, value in event.counts.items())
    by = f"{event.actor} ({event.source})" if event.actor else event.source
    alone = "alone: " if event.alone else ""
    lasted = "" if event.duration_ms is None else _span(event.duration_ms / 1000)
    return (f"{event.at:%Y-%m-%d %H:%M:%S}", event.breaker, what, lasted, by, " ".join(f"{alone}{why}".split()))


def _span(seconds: float) -> str:
    """Such as 1 h 4 min, 3 min 20 s, 4.2 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
