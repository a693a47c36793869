"""What an operator does with deferred requests, behind admin and command alike; each act is in Django's log.

Act and entry there are one transaction. What is possible is the desk's to say; who may, the doors'.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import DatabaseError, InterfaceError, transaction
from django.utils.translation import gettext_lazy as _

from breaker import django_log
from breaker.models import OperatorAct
from breaker.operations import LONGEST_ACTOR, ActRefused, check_words
from mifos_gateway.models import DeferredRequest
from mifos_gateway.outbox import desk
from mifos_gateway.outbox.desk import NotPossible

log = logging.getLogger("gateway")

TITLES = {"retry": _("Send again"), "cancel": _("Cancel"), "release": _("Release its order")}
ACTIONS = tuple(TITLES)


def purge(now: datetime, *, days: int | None = None, actor: str, source: str) -> int:
    """`desk.purge` by an operator; how many are gone."""
    gone = desk.purge(now, days=days)
    ended = f"what had ended {days} days before" if days is not None else "what had ended"
    message = f"Deleted {ended}: {gone}; by {actor}, {_SOURCES[source]}"
    log.warning("Deferred requests: %s", message)
    django_log.note(
        message, user=None, source=source, about=DeferredRequest, object_id=None, object_repr="what had ended"
    )
    return gone


class Unnoticed(RuntimeError):
    """What had to be written down could not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One act on one deferred request."""

    name: str
    """Its id; of one that is gone, which place of the table it had."""
    went: str = ""
    """Its status before and after: rejected → queued."""
    refused: str = ""
    """Why it was not done; "" where it was."""
    problem: str = ""
    """What could not be written of an act that was done."""


def act(
    pks: Sequence[int],
    action: str,
    *,
    actor: str,
    source: str,
    reason: str,
    new_key: bool | None = None,
    over: Mapping[int, str] | None = None,
    user: Any = None,
) -> list[Done]:
    """Do `action` (retry, cancel or release) to each of this gateway's, the earliest first, each for itself.

    `new_key`: for a retry, as `desk.retry` has it. `over`: by primary key what was `seen` of it; one that has changed
    since is left as it is. `user`: the actor's account, for Django's log; else somebody stands in for the `source`.
    Raises ActRefused before anything is done, and the database's errors where it is away before the first act.
    """
    if action not in ACTIONS:
        raise ActRefused(f"action={action!r}: one of {', '.join(ACTIONS)} is needed")
    if new_key is not None and action != "retry":
        raise ActRefused(f"new_key={new_key!r}: {action} has no key; leave it out")
    actor = actor[:LONGEST_ACTOR]
    check_words(actor, reason)
    by = _By(actor=actor, source=source, reason=reason, user=user)
    names = dict(desk.of_namespace().filter(pk__in=pks).values_list("pk", "uid"))
    done: list[Done] = []
    for pk in sorted(set(pks)):
        name = str(names.get(pk, f"no. {pk}"))
        try:
            done.append(_act_on(pk, name, action, by, new_key, None if over is None else over.get(pk, "")))
        except (DatabaseError, InterfaceError) as error:
            if not any(one.went for one in done):
                raise
            done.append(Done(name=name, refused=f"The database is away ({error})."))
    return done


def seen(row: DeferredRequest) -> str:
    """What an operator who looked at it decides upon: how it stands, since when, and with which key."""
    return f"{row.status}/{row.key_serial}/{row.ended_at or ''}/{row.released_at or ''}".replace(" ", "T")


def is_possible(action: str, row: DeferredRequest) -> bool:
    """Whether it makes sense now, as far as `row` tells."""
    match action:
        case "retry":
            return row.status in (DeferredRequest.Status.QUEUED, *desk.RETRIED)
        case "cancel":
            return row.status in desk.CANCELLED
        case _:
            return row.status in desk.STUCK and row.released_at is None and bool(row.order)


def told(row: DeferredRequest) -> list[Any]:
    """Django's entries about it, the first ones first."""
    from django.contrib.admin.models import LogEntry
    from django.contrib.contenttypes.models import ContentType

    about = ContentType.objects.get_for_model(DeferredRequest)
    return list(LogEntry.objects.filter(content_type=about, object_id=str(row.pk)).order_by("pk"))


def note_look(row: DeferredRequest, *, actor: str, source: str, user: Any = None) -> None:
    """That somebody looks at what it holds. Raises Unnoticed where that cannot be written down: then nobody does."""
    said = f"Looked at its payload; by {actor}, {_SOURCES[source]}"
    log.info("Deferred request %s: its payload was looked at by %s (%s)", row.uid, actor, source)
    if problem := _By(actor=actor, source=source, reason="", user=user).note(row, said):
        raise Unnoticed(problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class _By:
    actor: str
    source: str
    reason: str
    user: Any

    def note(self, row: DeferredRequest, message: str) -> str:
        return django_log.note(
            message,
            user=self.user,
            source=self.source,
            about=DeferredRequest,
            object_id=str(row.pk),
            object_repr=str(row.uid),
        )


def _act_on(pk: int, name: str, action: str, by: _By, new_key: bool | None, over: str | None) -> Done:
    try:
        with transaction.atomic():
            before = desk.of_namespace().select_for_update(of=("self",)).get(pk=pk)
            if over is not None and over != seen(before):
                raise NotPossible(f"It has changed since you looked, and is {_stands(before)}.")
            row = _DESK[action](pk) if action != "retry" else desk.retry(pk, new_key=new_key)
            if action != "retry" and _stands(row) == _stands(before):
                raise NotPossible(f"It is {_stands(row)} already.")  # which the desk lets callers repeat
            went = f"{_stands(before)} → {_stands(row)}"
            what = str(TITLES[action]) + (", with a new key" if row.key_serial > before.key_serial else "")
            problem = by.note(row, f"{what}: {by.reason} ({went}); by {by.actor}, {_SOURCES[by.source]}")
    except NotPossible as error:
        return Done(name=name, refused=str(error))
    except DeferredRequest.DoesNotExist:
        return Done(name=name, refused="It is gone: what has ended is deleted after a while.")
    log.warning(
        "Deferred request %s: %s by %s (%s): %s",
        name,
        action,
        by.actor,
        by.source,
        by.reason,
        extra={"deferred": name, "operation": action, "actor": by.actor, "source": by.source, "reason": by.reason},
    )
    return Done(name=name, went=went, problem=problem)


def _stands(row: DeferredRequest) -> str:
    return f"{row.status}, released" if row.released_at else str(row.status)


_DESK: dict[str, Callable[[int], DeferredRequest]] = {"cancel": desk.cancel, "release": desk.release}
_SOURCES = dict(OperatorAct.Source.choices)
