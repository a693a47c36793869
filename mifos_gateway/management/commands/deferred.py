"""manage.py deferred: see what was accepted for later, and decide upon it."""

from __future__ import annotations

import json
import re
import sys
import uuid
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError
from django.db.models import QuerySet

from breaker import timeline
from breaker.management.shell import table, who, write_to_nobody
from breaker.operations import ActRefused
from breaker.templatetags.breaker_times import duration
from breaker.timeline import BadSpan
from mifos_gateway import guard
from mifos_gateway.models import DeferredRequest
from mifos_gateway.outbox import acts, clock, desk, payload
from mifos_gateway.outbox.payload import Body

DONE, NOT_ALL_DONE, COULD_NOT_ASK = 0, 1, 2
MOST = 1000
COLUMNS = ("ID", "STATUS", "ORDER", "PLACE", "TRIES", "AGE", "CONSUMER", "CLIENT", "REQUEST")
ATTEMPTS = ("AT (UTC)", "OUTCOME", "STATUS", "KEY", "ERROR")
LONGEST_DAYS = 36_600
_HEX = re.compile(r"[0-9a-f]{1,32}")
_CONTROL = re.compile(r"[^\n\t -~\xa0-\U0010ffff]")
"""What a terminal would take for orders."""


class Command(BaseCommand):
    help = "Show deferred requests; send them again, cancel them, release what they hold up, or delete what has ended."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        listed = verbs.add_parser("list", help="the newest first")
        listed.add_argument("--status", metavar="STATUS,...", help=", ".join(DeferredRequest.Status.values))
        listed.add_argument("--client", choices=guard.USERS)
        listed.add_argument("--consumer", metavar="NAME")
        listed.add_argument("--order", metavar="KEY", help="such as loans/5")
        listed.add_argument("--since", metavar="WHEN", help="accepted since: a time, or how long ago: 24h, 15m")
        listed.add_argument("--limit", type=int, default=MOST, metavar="N", help=f"at most so many, default {MOST}")
        listed.add_argument("--json", action="store_true", help="as the REST API has them, without bodies")
        shown = verbs.add_parser("show", help="one of them, with its attempts and what was done with it")
        shown.add_argument("id", metavar="ID", help="or its beginning")
        shown.add_argument("--payload", action="store_true", help="also the bodies; that is noted in Django's log")
        shown.add_argument("--json", action="store_true")
        for action, what in _ACTS.items():
            verb = verbs.add_parser(action, help=what)
            verb.add_argument("ids", nargs="+", metavar="ID", help="or its beginning")
            verb.add_argument("--reason", required=True, help="why, for those who read it later")
            if action == "retry":
                verb.add_argument("--new-key", action="store_true", help="MIFOS was looked at, and nothing was done")
        purge = verbs.add_parser("purge", help="delete what has ended; what holds up an order stays")
        purge.add_argument("--days", type=int, metavar="N", help="ended so long ago (GATEWAY_DEFERRED_DAYS)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            code = getattr(self, f"_{options['verb']}", self._act)(options)
            self.stdout.flush()
        except BrokenPipeError:  # who reads has enough, such as `head`
            write_to_nobody()
            code = DONE
        except (ActRefused, BadSpan, acts.Unnoticed) as error:
            raise CommandError(str(error), returncode=COULD_NOT_ASK) from error
        except (DatabaseError, InterfaceError) as error:
            message = f"the database, which keeps deferred requests, could not be asked: {error}"
            raise CommandError(message, returncode=COULD_NOT_ASK) from error
        if code:
            sys.exit(code)

    # -- what there is ---------------------------------------------------------------------------------------------

    def _list(self, options: dict[str, Any]) -> int:
        if options["limit"] < 1:
            raise CommandError(f"--limit {options['limit']}: 1 or more is needed", returncode=COULD_NOT_ASK)
        found = _chosen(options)
        numbered = desk.with_numbers(found.defer("payload", "response"))
        if options["json"]:
            numbered = numbered.prefetch_related("attempts")
        rows: list[Any] = list(numbered[: options["limit"] + 1])
        is_cut, rows = len(rows) > options["limit"], rows[: options["limit"]]
        if options["json"]:
            self.stdout.write(
                json.dumps([_entry(row, attempts=row.attempts.all(), place=row.place) for row in rows], indent=2)
            )
        elif rows:
            now = clock.now()
            table(self.stdout, COLUMNS, [_line(row, now) for row in rows])
        else:
            self.stdout.write("There is none.")
        if is_cut:
            self.stderr.write(f"There are more: {len(rows)} are shown; --limit shows others.")
        return DONE

    def _show(self, options: dict[str, Any]) -> int:
        (row,) = _meant([options["id"]])
        held = None
        if options["payload"]:
            acts.note_look(row, actor=who(), source="command")
            held = payload.of(row, longest=None)
        if options["json"]:
            self.stdout.write(json.dumps(_entry(row) | _acts(row) | ({} if held is None else _held(held)), indent=2))
            return DONE
        for name, value in _entry(row).items():
            if name != "attempts":
                self.stdout.write(f"{name}: {_plain(value)}")
        if attempts := [_attempt(one) for one in row.attempts.all()]:
            self.stdout.write("")
            table(self.stdout, ATTEMPTS, attempts)
        for one in acts.told(row):
            self.stdout.write(f"\n{one.action_time:%Y-%m-%d %H:%M:%S} {one.get_change_message()}")
        if held is not None:
            self._write_bodies(held)
        return DONE

    def _write_bodies(self, held: payload.Payload) -> None:
        headers = "".join(f"{name}: {value}\n" for name, value in held.headers.items())
        self.stdout.write(f"\nIt holds:\n{headers}\n{_in_words(held.body)}")
        if held.response is not None:
            self.stdout.write(f"\nMIFOS said:\n{_in_words(held.response)}")

    # -- acts --------------------------------------------------------------------------------------------------------

    def _act(self, options: dict[str, Any]) -> int:
        rows = _meant(options["ids"])
        done = acts.act(
            [row.pk for row in rows],
            options["verb"],
            actor=who(),
            source="command",
            reason=options["reason"],
            new_key=True if options.get("new_key") else None,
        )
        for one in done:
            if one.refused:
                self.stderr.write(self.style.ERROR(f"{one.name}: not done: {one.refused}"))
                continue
            if one.problem:
                self.stderr.write(self.style.WARNING(f"{one.name}: done, but {one.problem}"))
            self.stdout.write(f"{one.name}: {one.went}")
        return NOT_ALL_DONE if any(one.refused for one in done) else DONE

    def _purge(self, options: dict[str, Any]) -> int:
        days = options["days"]
        if days is not None and not 1 <= days <= LONGEST_DAYS:
            raise CommandError(f"--days {days}: 1 to {LONGEST_DAYS} is needed", returncode=COULD_NOT_ASK)
        gone = acts.purge(clock.now(), days=days, actor=who(), source="command")
        self.stdout.write(f"Deleted: {gone}.")
        return DONE


_ACTS = {
    "retry": "send them again, for a new time to live; what was rejected with a new key",
    "cancel": "they are not sent (again), and those behind them go on",
    "release": "those behind a rejected or unknown one go on without it",
}


def _chosen(options: dict[str, Any]) -> QuerySet[DeferredRequest]:
    found = desk.of_namespace()
    if options["status"]:
        statuses = [word.strip() for word in options["status"].split(",")]
        for word in statuses:
            if word not in DeferredRequest.Status.values:
                there_are = ", ".join(DeferredRequest.Status.values)
                raise CommandError(f"--status {word!r}: one of {there_are} is needed", returncode=COULD_NOT_ASK)
        found = found.filter(status__in=statuses)
    for field, name in (("client", "client"), ("consumer", "consumer_id"), ("order", "order_key")):
        if options[field] is not None:
            found = found.filter(**{name: options[field]})
    if options["since"] is not None:
        found = found.filter(created_at__gte=timeline.moment("--since", options["since"]))
    return found


def _meant(beginnings: Sequence[str]) -> list[DeferredRequest]:
    """One for each beginning of an id; all are looked for before anything is done."""
    return [_one(beginning) for beginning in beginnings]


def _one(beginning: str) -> DeferredRequest:
    digits = beginning.lower().replace("-", "")
    if not _HEX.fullmatch(digits):
        raise CommandError(
            f"ID {beginning!r}: an id, or the beginning of one, is hexadecimal digits and hyphens, such as 0d7f5a52",
            returncode=COULD_NOT_ASK,
        )
    first, last = (uuid.UUID(digits.ljust(32, digit)) for digit in "0f")
    found = list(desk.of_namespace().filter(uid__range=(first, last)).order_by("uid")[:4])
    if not found:
        raise CommandError(f"ID {beginning!r}: there is no such deferred request", returncode=COULD_NOT_ASK)
    if len(found) > 1:
        some = ", ".join(str(row.uid) for row in found[:3])
        raise CommandError(
            f"ID {beginning!r}: several begin so, such as {some}; give more of it", returncode=COULD_NOT_ASK
        )
    return found[0]


# -- in words ----------------------------------------------------------------------------------------------------------


def _entry(row: Any, **more: Any) -> dict[str, Any]:
    """As the REST API has it, but without MIFOS's body; and what operators want to know besides."""
    return desk.entry(row, with_body=False, **more) | {
        "consumer": row.consumer_id,
        "breaker": row.breaker,
        "keyBurnt": row.key_burnt,
        "newKeys": row.key_serial,
        "dueAt": desk.at(row.due_at),
        "endedAt": row.ended_at and desk.at(row.ended_at),
        "releasedAt": row.released_at and desk.at(row.released_at),
    }


def _acts(row: DeferredRequest) -> dict[str, Any]:
    said = [{"at": desk.at(one.action_time), "what": one.get_change_message()} for one in acts.told(row)]
    return {"acts": said}


def _held(held: payload.Payload) -> dict[str, Any]:
    response = None if held.response is None else _body(held.response)
    return {"payload": {"headers": held.headers, "body": _body(held.body), "response": response}}


def _body(body: Body) -> dict[str, Any]:
    return {"text": None if body.why else body.text, "bytes": body.size, "note": body.why or None}


def _line(row: Any, now: datetime) -> tuple[str, ...]:
    age = duration((now - row.created_at).total_seconds())
    place = "" if row.place is None else str(row.place)
    status = f"{row.status}, released" if row.released_at else row.status
    who_asked = row.consumer_id or "-"
    request = f"{row.method} {row.target}"
    return (str(row.uid), status, row.order_key, place, str(row.tries), age, who_asked, row.client, request)


def _attempt(one: Any) -> tuple[str, ...]:
    status = "" if one.status is None else str(one.status)
    return (f"{one.at:%Y-%m-%d %H:%M:%S}", one.outcome, status, str(one.key_serial + 1), one.error)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _in_words(body: Body) -> str:
    return f"({body.why})" if body.why else _CONTROL.sub(lambda found: repr(found[0])[1:-1], body.text)
