"""What a run leaves behind: who did what when, all in seconds since the run began, on one clock of the machine."""

import dataclasses
import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from breaker.engine.policy import Policy

KINDS = ("successes", "failures", "timeouts", "rejects")
NO_ANSWER = 0
LOG_DELAY = 0.5
"""Seconds that a line may wait in its process before it is written: those of a killed process are lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a caller saw of one call."""

    id: str
    """The X-Request-ID, by which MIFOS's side and the log are found."""
    breaker: str
    gateway: int
    sent: float
    answered: float
    status: int
    """NO_ANSWER where the connection broke."""
    error: str = ""
    """X-Gateway-Error."""

    @property
    def seconds(self) -> float:
        return self.answered - self.sent

    @property
    def counts_as(self) -> str:
        """Which of KINDS; "" for a call that broke: it may have been counted or not, and as anything."""
        if self.status == NO_ANSWER:
            return ""
        if self.status == 503 and self.error == "SERVICE_UNAVAILABLE":
            return "rejects"
        if self.status < 500:
            return "successes"
        return "timeouts" if self.status == 504 else "failures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request that reached MIFOS."""

    id: str
    at: float
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A line of the access log: which worker served a call."""

    id: str
    pid: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A line of the log that tells a transition."""

    id: str
    breaker: str
    state: str
    """The new one."""
    pid: int
    at: float
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An entry of the stream in Redis: a circuit as it was written."""

    entry: str
    id: str
    """The generation's."""
    breaker: str
    state: str
    at: float
    """By Redis's clock, cut to milliseconds."""
    since: float
    """When the state began by the word of who wrote it: a write may take a while."""
    transition: bool = True
    """False: put back from what a process knew."""
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Born:
    pid: int
    gateway: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """A worker said that it has lost the shared state; `until` infinite: it never said that it is back."""

    pid: int
    since: float
    until: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What was done to the processes: `what` is kill, pause or flush of Redis, or kill of a worker."""

    what: str
    began: float
    ended: float
    pid: int = 0
    gateway: int = -1

    @property
    def to_redis(self) -> bool:
        return not self.pid

    @property
    def lost_data(self) -> bool:
        return self.to_redis and self.what in ("kill", "flush")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """A thread that wanted to wake at `at` woke so many seconds late; with a pid: the threads of that worker waited so
    long for a processor, all together, since it was last asked."""

    at: float
    seconds: float
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A worker's belongings in a quiet moment, when no call runs."""

    pid: int
    at: float
    threads: int
    """Those but gunicorn's request pool, which is as large as calls ran at once."""
    sockets: int
    """Descriptors but those of idle connections to MIFOS, whose number follows the calls that ran at once."""
    idle: int
    """Those."""
    rss: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A breaker's totals as the status shows them in a quiet moment."""

    at: float
    breaker: str
    successes: int
    failures: int
    timeouts: int
    rejects: int


@dataclass(kw_only=True)
class Recording:
    seed: int = 0
    minutes: float = 1.0
    plan: list[str] = field(default_factory=list)
    """The schedule, a line a step."""
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The breakers' options that were set."""
    whole: list[str] = field(default_factory=list)
    """The breakers whose window holds the whole run."""
    idle_at_most: int = 32
    """Idle connections to MIFOS that a worker may keep for each user."""
    deeds: list[Deed] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    born: list[Born] = field(default_factory=list)
    alone: list[Alone] = field(default_factory=list)
    stalls: list[Stall] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """Lines of the log that tell an error which nobody foresaw."""
    left: list[str] = field(default_factory=list)
    """Processes that were still there when all had been ended."""

    # -- questions -------------------------------------------------------------------------------------------------

    def policy(self, breaker: str) -> Policy:
        return Policy(**self.policies.get(breaker, {}))

    @cached_property
    def breakers(self) -> list[str]:
        return sorted({call.breaker for call in self.calls} | {event.breaker for event in self.events})

    @cached_property
    def call(self) -> dict[str, Call]:
        return {call.id: call for call in self.calls}

    @cached_property
    def arrival(self) -> dict[str, Arrival]:
        """The first of each id."""
        return {arrival.id: arrival for arrival in reversed(self.arrivals)}

    @cached_property
    def kills(self) -> list[Deed]:
        """Of workers."""
        return [deed for deed in self.deeds if not deed.to_redis]

    @cached_property
    def redis_deeds(self) -> list[Deed]:
        return [deed for deed in self.deeds if deed.to_redis]

    @cached_property
    def died(self) -> dict[int, float]:
        return {deed.pid: deed.began for deed in self.kills}

    @cached_property
    def pids(self) -> list[int]:
        return sorted({each.pid for each in (*self.born, *self.served)})

    @cached_property
    def _workers(self) -> dict[str, int | None]:
        logged = {served.id: served.pid for served in self.served}
        return {call.id: logged.get(call.id) or self._victim(call) for call in self.calls}

    def victims(self, call: Call) -> set[int]:
        """Workers that were killed when they may have served it."""
        return {
            deed.pid
            for deed in self.kills
            if deed.gateway == call.gateway and call.sent - 0.05 <= deed.began <= call.answered + LOG_DELAY
        }

    def _victim(self, call: Call) -> int | None:
        victims = self.victims(call)
        return victims.pop() if len(victims) == 1 else None

    def worker(self, call: Call) -> int | None:
        """Who served it: by the log; without a line a worker of that gateway that was killed then. Else None."""
        return self._workers[call.id]

    @cached_property
    def calls_of(self) -> dict[tuple[int | None, str], list[Call]]:
        """By worker and breaker, as they were sent."""
        found: dict[tuple[int | None, str], list[Call]] = defaultdict(list)
        for call in sorted(self.calls, key=lambda call: call.sent):
            found[self.worker(call), call.breaker].append(call)
        return found

    @cached_property
    def calls_to(self) -> dict[str, list[Call]]:
        """By breaker, as they were sent."""
        found: dict[str, list[Call]] = defaultdict(list)
        for call in sorted(self.calls, key=lambda call: call.sent):
            found[call.breaker].append(call)
        return found

    def sent(self, calls: list[Call], start: float, end: float) -> list[Call]:
        """Those of `calls`, which are in order, that were sent in that time."""
        return calls[bisect_left(calls, start, key=_sent) : bisect_right(calls, end, key=_sent)]

    @cached_property
    def events_of(self) -> dict[str, list[Event]]:
        """By breaker, as Redis made them."""
        found: dict[str, list[Event]] = defaultdict(list)
        for event in sorted(self.events, key=_order):
            found[event.breaker].append(event)
        return found

    @cached_property
    def _first(self) -> dict[int, float]:
        found: dict[int, float] = {}
        for served in self.served:
            found[served.pid] = min(served.at, found.get(served.pid, served.at))
        return found

    def served_first(self, pid: int) -> float:
        """When it had answered its first call."""
        return self._first.get(pid, float("inf"))

    @cached_property
    def _stalls(self) -> list[Stall]:
        return sorted((one for one in self.stalls if not one.pid), key=_at)

    def stall(self, start: float, end: float, around: float = 0.5) -> float:
        """How late a thread woke at worst in that time, seconds."""
        first, last = (
            bisect_left(self._stalls, start - around, key=_at),
            bisect_right(self._stalls, end + around, key=_at),
        )
        return max((one.seconds for one in self._stalls[first:last]), default=0.0)

    @cached_property
    def _waits(self) -> dict[int, list[Stall]]:
        found: dict[int, list[Stall]] = defaultdict(list)
        for one in sorted(self.stalls, key=_at):
            found[one.pid].append(one)
        return found

    def waited(self, pid: int | None, start: float, end: float, around: float = 0.15) -> float:
        """How long a worker's threads waited for a processor in that time, seconds."""
        waits = self._waits[pid] if pid else []
        first, last = bisect_left(waits, start, key=_at), bisect_right(waits, end + around, key=_at)
        return sum(one.seconds for one in waits[first:last])

    def touched(self, start: float, end: float, *whats: str) -> Deed | None:
        """What was done to Redis in that time."""
        fitting = (d for d in self.redis_deeds if not whats or d.what in whats)
        return next((deed for deed in fitting if deed.began <= end and start <= deed.ended), None)

    def is_alone(self, pid: int | None, start: float, end: float) -> bool:
        """Whether a worker was without the shared state at any moment of that time, as far as one can tell."""
        return any(each.since <= end and start <= each.until for each in self.alone if each.pid == pid)

    def is_anyone_alone(self, start: float, end: float) -> bool:
        return any(each.since <= end and start <= each.until for each in self.alone)

    # -- kept ------------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "Recording":
        content = json.loads(path.read_text())
        return cls(**{name: [*_rows(name, value)] if name in ROWS else value for name, value in content.items()})


ROWS: dict[str, type] = {
    "deeds": Deed,
    "calls": Call,
    "arrivals": Arrival,
    "served": Served,
    "told": Told,
    "events": Event,
    "born": Born,
    "alone": Alone,
    "stalls": Stall,
    "samples": Sample,
    "counts": Count,
}


def _rows(name: str, rows: list[dict[str, Any]]) -> Iterator[Any]:
    return (ROWS[name](**row) for row in rows)


def _sent(call: Call) -> float:
    return call.sent


def _at(row: Any) -> float:
    return float(row.at)


def _order(event: Event) -> tuple[int, ...]:
    return tuple(int(part) for part in event.entry.split("-"))
