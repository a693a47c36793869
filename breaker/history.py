"""History in the database: what happened to breakers, and what they counted by minute and by hour.

It is taken from the shared store, which keeps both until somebody says that they are stored. Everything here may be
done twice, or by two processes at once, and changes nothing the second time: events are unique by their write's id, and
a minute's row is written with what the whole minute holds, not added to, and never with less than it holds already.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from django.db import DataError, IntegrityError, transaction
from django.db.models import Exists, OuterRef, QuerySet

from breaker import conf
from breaker.engine.stores.base import MINUTE_MS, Event, Store
from breaker.engine.window import Totals, by_name
from breaker.models import BreakerEvent, HourSample, MinuteSample, RunningTotals, Sample, Series

log = logging.getLogger("breaker")

HOUR = timedelta(hours=1)
EVENTS_AT_ONCE = 500
ROWS_AT_ONCE = 500
SERIES_AT_ONCE = 100
LATE_MS = 2_000
"""So long after its end a minute is stored: what its last calls counted has arrived by then."""
LEFT_OUT = "An event of breaker %r cannot be stored, and is left out of its history"
_COUNTS = ("successes", "failures", "timeouts", "rejects", "fallbacks", "latency_us")


# -- writing -----------------------------------------------------------------------------------------------------------


def store_events(store: Store, *, alone: bool = False) -> int:
    """Store what happened since the last time; how many events were new to us.

    `alone`: of one process for itself. What an event says of itself is no sign of that: all follow an OPEN that one
    found alone and the shared store then took.
    """
    count = 0
    while events := store.past(EVENTS_AT_ONCE):
        told = [row for event in events if event.event and (row := _built(event, alone=alone))]
        _insert(told)
        if not alone:
            _share(told)
        store.stored(events[-1].cursor)
        count += len(told)
        if len(events) < EVENTS_AT_ONCE:
            break
    return count


def _share(events: Sequence[BreakerEvent]) -> None:
    """A shared write whose answer was lost is made alone too, under the same rev, and may be stored first."""
    revs = [event.rev for event in events]
    BreakerEvent.objects.filter(namespace=conf.namespace(), rev__in=revs, alone=True).update(alone=False)


def _insert(events: Sequence[BreakerEvent]) -> None:
    """One that the database refuses for what it says is left out, lest all that follow wait for it for ever.

    A database that is away is another matter: then all wait.
    """
    try:
        with transaction.atomic():
            BreakerEvent.objects.bulk_create(events, ignore_conflicts=True)
    except (DataError, IntegrityError, ValueError, TypeError, OverflowError):
        if len(events) > 1:
            for event in events:
                _insert([event])
            return
        log.exception(LEFT_OUT, events[0].breaker)


def _built(event: Event, *, alone: bool) -> BreakerEvent | None:
    """None for one that makes no sense: any client of Redis may have written it, or another version."""
    try:
        return _event(event, alone=alone)
    except Exception:
        log.exception(LEFT_OUT, event.name)
        return None


def _event(event: Event, *, alone: bool) -> BreakerEvent:
    said = event.event
    is_act = said.get("kind") != "transition"
    expired = said.get("kind") == "expired"
    why: Mapping[str, Any] = said.get("why") or {}
    return BreakerEvent(
        namespace=conf.namespace(),
        rev=event.rev[:32],
        breaker=event.name,
        kind=BreakerEvent.Kind.OPERATION if is_act else BreakerEvent.Kind.TRANSITION,
        operation=said.get("operation", "release" if expired else ""),
        from_state=said.get("from") or "",
        to_state=said.get("to") or "",
        at=moment(event.at),
        actor=(said.get("actor") or "")[:200],
        source=said.get("source") or BreakerEvent.Source.BREAKER,
        reason="the time that an operator set is over" if expired else said.get("reason") or "",
        counts={key: value for key, value in why.items() if key != "alone"},
        duration_ms=said.get("lasted"),
        alone=alone,
    )


def store_minutes(store: Store, now: int, *, running: bool = False) -> None:
    """Store the minutes that were counted into since the last time and have ended; `running`: the one that runs too."""
    ended = (now - LATE_MS) // MINUTE_MS
    due = {number: mark for number, mark in store.due_minutes().items() if running or number < ended}
    for number in sorted(due):
        epoch, counted = store.minute(number)
        _store_minute(epoch, moment(number * MINUTE_MS), by_name(counted))
        store.stored_minutes({number: due[number]})


def _store_minute(epoch: str, at: datetime, counted: Mapping[str, Totals]) -> None:
    """A row that holds more stays: who read earlier may write later, and a Redis that was restored holds less again."""
    with transaction.atomic():
        series = _series(epoch, counted)
        rows = [MinuteSample(series=series[name], at=at, **_sums(totals)) for name, totals in counted.items()]
        held = MinuteSample.objects.filter(series__in=series.values(), at=at)
        weights = {row.series_id: _weight(row) for row in held.defer("histogram")}
        _upsert(MinuteSample, [row for row in rows if _weight(row) >= weights.get(row.series_id, 0)], "rolled")


def _weight(sample: Sample) -> int:
    return sample.successes + sample.failures + sample.timeouts + sample.rejects + sample.fallbacks


def _series(epoch: str, names: Collection[str]) -> dict[str, Series]:
    """These breakers' series, locked: two who store the same minute go one after the other."""
    mine = {"namespace": conf.namespace(), "store": epoch}

    def known() -> dict[str, Series]:
        found = Series.objects.select_for_update().filter(**mine).order_by("pk")
        return {one.breaker: one for one in found if one.breaker in names}

    found = known()
    if missing := [name for name in names if name not in found]:
        Series.objects.bulk_create([Series(**mine, breaker=name) for name in missing], ignore_conflicts=True)
        found = known()
    return found


def _sums(totals: Totals) -> dict[str, Any]:
    return {name: getattr(totals, name) for name in _COUNTS} | {"histogram": pack(totals.histogram)}


def _upsert(model: type[Sample], rows: Sequence[Sample], *more: str) -> None:
    model._default_manager.bulk_create(
        rows,
        batch_size=ROWS_AT_ONCE,
        update_conflicts=True,
        unique_fields=("series", "at"),
        update_fields=(*_COUNTS, "histogram", *more),
    )


def roll_up(now: int) -> bool:
    """Sum the minutes of one hour that has ended, for some breakers; whether there may be more to do."""
    this_hour = hour_of(moment(now - LATE_MS))
    with transaction.atomic():
        waiting = MinuteSample.objects.filter(rolled=False, at__lt=this_hour)
        first = waiting.order_by("at").values_list("at", flat=True).first()
        if first is None:
            return False
        hour = hour_of(first)
        within = {"at__gte": hour, "at__lt": hour + HOUR}
        series = list(waiting.filter(**within).values_list("series", flat=True).distinct()[:SERIES_AT_ONCE])
        _lock(series)
        minutes = list(
            MinuteSample.objects.select_for_update().filter(series__in=series, **within).order_by("series", "at")
        )
        rows = [
            HourSample(series_id=one, at=hour, **_sums(summed(samples)))
            for one, samples in groupby(minutes, key=lambda sample: sample.series_id)
        ]
        _upsert(HourSample, rows)
        # Those that were read: another may have come into the hour since.
        MinuteSample.objects.filter(pk__in=[minute.pk for minute in minutes]).update(rolled=True)
    return True


def _lock(series: Sequence[int]) -> None:
    """Before their minutes, as who stores a minute does: an hour's row needs its series too, and the two would wait
    for each other."""
    list(Series.objects.select_for_update().filter(pk__in=series).order_by("pk"))


def prune(now: int) -> int:
    """Drop some of what is older than the settings keep; how many rows.

    Only this namespace's: others that share the database may keep theirs for longer. The samples of some series at a
    time, in turn. Minutes stay an hour longer, for who asks for all of them.
    """
    at = moment(now)
    minutes, hours = at - timedelta(days=conf.minute_days(), hours=1), at - timedelta(days=conf.hour_days())
    series = _some_series()
    dropped = sum(
        _drop(old)
        for old in (
            MinuteSample.objects.filter(series__in=series, at__lt=minutes, rolled=True),
            HourSample.objects.filter(series__in=series, at__lt=hours),
            BreakerEvent.objects.filter(at__lt=hours, namespace=conf.namespace()),
            RunningTotals.objects.filter(at__lt=hours, namespace=conf.namespace()),
        )
    )
    _drop_empty(series)
    return dropped


_turn = 0
"""The last series that was looked at."""


def _some_series() -> list[int]:
    global _turn
    mine = Series.objects.filter(namespace=conf.namespace()).order_by("pk").values_list("pk", flat=True)
    found = list(mine.filter(pk__gt=_turn)[:SERIES_AT_ONCE])
    _turn = found[-1] if len(found) == SERIES_AT_ONCE else 0
    return found


def _drop(old: QuerySet[Any]) -> int:
    some = list(old.order_by("at").values_list("pk", flat=True)[:ROWS_AT_ONCE])
    return old.model._default_manager.filter(pk__in=some).delete()[0] if some else 0


def _drop_empty(series: Sequence[int]) -> None:
    """Series of stores that are long gone: each process without a shared store is one."""
    one = OuterRef("pk")
    full = Exists(MinuteSample.objects.filter(series=one)) | Exists(HourSample.objects.filter(series=one))
    Series.objects.filter(pk__in=series).exclude(full).delete()


# -- sums --------------------------------------------------------------------------------------------------------------


def summed(samples: Iterable[Sample]) -> Totals:
    """What several samples hold together."""
    totals = Totals()
    for sample in samples:
        for name in _COUNTS:
            setattr(totals, name, getattr(totals, name) + getattr(sample, name))
        totals.histogram.update(unpack(sample.histogram))
    return totals


def pack(histogram: Mapping[int, int]) -> bytes:
    """A histogram in few bytes: by rising slot, how far from the last one and how many calls, as varints (seven bits a
    byte, the lowest first, the eighth says that more follow)."""
    packed, last = bytearray(), 0
    for slot in sorted(histogram):
        for number in (slot - last, histogram[slot]):
            while number > 127:
                packed.append(number & 127 | 128)
                number >>= 7
            packed.append(number)
        last = slot
    return bytes(packed)


def unpack(packed: bytes | memoryview) -> Counter[int]:
    numbers: list[int] = []
    number = shift = 0
    for byte in bytes(packed):
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(number)
            number = shift = 0
    histogram: Counter[int] = Counter()
    slot = 0
    for step, count in zip(numbers[::2], numbers[1::2], strict=True):
        slot += step
        histogram[slot] = count
    return histogram


def moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
