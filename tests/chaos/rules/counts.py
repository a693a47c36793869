"""What the status says is what callers saw: exact, but for a beat of each killed worker."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from breaker.engine.sync import IDLE_BEAT
from tests.chaos.recording import KINDS, Call, Count, Deed, Recording
from tests.chaos.rules import Found
from tests.chaos.views import SILENT_LOSS

Kinds = Counter[str]
TO_DIE = 0.05
"""Seconds in which a Redis that is being killed may still take a count."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A count, what came since the one before (or since Redis last lost its data), and its bounds by kind."""

    now: Count
    since: float
    exact: bool
    """Whether Redis has kept its data since then."""
    counted: Kinds
    least: Kinds
    most: Kinds
    seen: int
    """Calls that callers saw answered."""

    @property
    def missing(self) -> int:
        """Those that were not counted."""
        return max(0, self.seen - sum(self.counted[kind] for kind in KINDS))


def counts_are_right(recording: Recording) -> Found:
    for one in compared_counts(recording):
        for kind in KINDS:
            if not one.least[kind] <= one.counted[kind] <= one.most[kind]:
                expected = f"{one.least[kind]} to {one.most[kind]} since {one.since:.1f}"
                said = f"{one.now.breaker} has counted {one.counted[kind]} {kind} instead of {expected}"
                yield said, one.now.at, (one.now,)


def compared_counts(recording: Recording) -> Iterator[Compared]:
    for breaker in recording.whole:
        before: Count | None = None
        for now in sorted((one for one in recording.counts if one.breaker == breaker), key=lambda one: one.at):
            calls = [call for call in recording.calls_to[breaker] if call.sent <= now.at]
            since = before.at if before is not None else float("-inf")
            losses = [deed for deed in recording.redis_deeds if deed.lost_data and since < deed.began <= now.at]
            if losses:
                yield _since_a_loss(recording, now, calls, max(losses, key=lambda deed: deed.began))
            else:
                yield _since_a_count(recording, before, now, [call for call in calls if call.sent > since])
            before = now


def _since_a_count(recording: Recording, before: Count | None, now: Count, calls: list[Call]) -> Compared:
    """Exact, but for what died with a worker, and for calls that broke, which may have been counted or not."""
    seen = Counter(call.counts_as for call in calls)
    dead = Counter(call.counts_as for call in calls if _may_have_died(recording, call))
    return Compared(
        now=now,
        since=before.at if before is not None else 0.0,
        exact=True,
        counted=Counter({kind: getattr(now, kind) - (getattr(before, kind) if before else 0) for kind in KINDS}),
        least=Counter({kind: seen[kind] - dead[kind] for kind in KINDS}),
        most=Counter({kind: seen[kind] + seen[""] for kind in KINDS}),
        seen=sum(seen[kind] for kind in KINDS),
    )


def _since_a_loss(recording: Recording, now: Count, calls: list[Call], loss: Deed) -> Compared:
    """What Redis had before it lost its data is gone; what it had not yet, an idle beat's at most or what a worker that
    was alone has kept, may have come after."""
    unsent = _last_beat(recording, loss.began)
    lost = loss.ended if loss.what == "flush" else loss.began + TO_DIE
    surely = Counter(call.counts_as for call in calls if call.sent >= lost and not _may_have_died(recording, call))
    perhaps = Counter(call.counts_as for call in calls if call.answered >= unsent or _was_kept(recording, call, unsent))
    return Compared(
        now=now,
        since=loss.began,
        exact=False,
        counted=Counter({kind: getattr(now, kind) for kind in KINDS}),
        least=surely,
        most=Counter({kind: perhaps[kind] + perhaps[""] for kind in KINDS}),
        seen=sum(surely[kind] for kind in KINDS),
    )


def _may_have_died(recording: Recording, call: Call) -> bool:
    """Whether its count may have died with its worker: not yet sent, for a beat, or since it had lost Redis."""
    pid = recording.worker(call)
    died = recording.died.get(pid or 0)
    if died is None:
        return False
    since = [died]
    since += [each.since for each in recording.alone if each.pid == pid and each.since <= died <= each.until]
    since += [deed.began for at in since if (deed := recording.touched(at - SILENT_LOSS, at, "kill", "pause"))]
    return call.answered >= _last_beat(recording, min(since))


def _last_beat(recording: Recording, at: float) -> float:
    """Since when a count may not have been sent at some moment: its beat and its push may each have stalled."""
    return at - IDLE_BEAT - 2 * recording.stall(at - IDLE_BEAT, at)


def _was_kept(recording: Recording, call: Call, at: float) -> bool:
    pid = recording.worker(call)
    return any(
        each.pid == pid and each.since - SILENT_LOSS <= call.answered and each.until >= at for each in recording.alone
    )
