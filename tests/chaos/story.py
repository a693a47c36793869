"""Hand-made recordings."""

import itertools

from tests.chaos.checker import check
from tests.chaos.recording import (
    KINDS,
    Alone,
    Arrival,
    Born,
    Call,
    Count,
    Deed,
    Event,
    Recording,
    Sample,
    Served,
    Stall,
    Told,
)

X, STEADY = "x", "steady"
REJECTED = {"status": 503, "error": "SERVICE_UNAVAILABLE", "reaches": False}
ENOUGH = {"it_has_seen_enough"}
FIRST, SECOND, THIRD = 1, 2, 3
"""Workers; the first two serve the first gateway."""


class Story:
    """A recording in the making: three workers that have served since 0.1 s, a breaker that is CLOSED."""

    def __init__(self) -> None:
        self.recording = Recording(
            policies={
                X: {"reset_timeout": 1, "timeout": 1},
                STEADY: {"error_threshold_percentage": 100, "timeout": 1, "rolling_count_timeout": 3600},
            },
            whole=[STEADY],
        )
        self._ids = (f"{number:03}" for number in itertools.count())
        for pid in (FIRST, SECOND, THIRD):
            self.recording.born.append(Born(pid=pid, gateway=self.gateway(pid), at=-2.0))
            self.call(0.1, pid=pid)
        self.calls(99, 0.2, breaker="usual", pid=THIRD)
        self.turn("CLOSED", 0.0, pid=0, told=False, transition=False)

    @staticmethod
    def gateway(pid: int) -> int:
        return 0 if pid in (FIRST, SECOND) else 1

    def call(
        self,
        at: float,
        status: int = 200,
        *,
        pid: int | None = FIRST,
        breaker: str = X,
        lasts: float = 0.01,
        error: str = "",
        fault: str = "",
        reaches: bool = True,
    ) -> str:
        """A call that was sent at `at`; without a pid the log has no line of it."""
        id = next(self._ids)
        self.recording.calls.append(
            Call(
                id=id,
                breaker=breaker,
                gateway=self.gateway(pid or FIRST),
                sent=at,
                answered=at + lasts,
                status=status,
                error=error,
            )
        )
        if reaches:
            self.recording.arrivals.append(Arrival(id=id, at=at + 0.004, fault=fault))
        if pid is not None:
            self.recording.served.append(Served(id=id, pid=pid, at=at + lasts))
        return id

    def calls(self, times: int, at: float, *args: int, **options: object) -> None:
        for number in range(times):
            self.call(at + number * 0.02, *args, **options)  # type: ignore[arg-type]

    def turn(
        self,
        state: str,
        at: float,
        *,
        pid: int = FIRST,
        told: bool = True,
        event: bool = True,
        alone: bool = False,
        transition: bool = True,
        id: str = "",
        since: float | None = None,
    ) -> str:
        since = at if since is None else since
        id = id or f"g{next(self._ids)}"
        if told:
            self.recording.told.append(Told(id=id, breaker=X, state=state, pid=pid, at=at + 0.001, alone=alone))
        if event:
            entry = f"{round(at * 1000)}-{len(self.recording.events)}"
            self.recording.events.append(
                Event(
                    entry=entry, id=id, breaker=X, state=state, at=at, since=since, transition=transition, alone=alone
                )
            )
        return id

    def turn_alone(self, state: str, at: float, pid: int = FIRST) -> str:
        return self.turn(state, at, pid=pid, event=False, alone=True)

    def redis(self, what: str, began: float, ended: float) -> None:
        self.recording.deeds.append(Deed(what=what, began=began, ended=ended))

    def kill(self, pid: int, at: float) -> None:
        self.recording.deeds.append(Deed(what="kill", began=at, ended=at, pid=pid, gateway=self.gateway(pid)))

    def alone(self, since: float, until: float, *pids: int) -> None:
        for pid in pids or (FIRST, SECOND, THIRD):
            self.recording.alone.append(Alone(pid=pid, since=since, until=until))

    def stall(self, at: float, seconds: float) -> None:
        self.recording.stalls.append(Stall(at=at, seconds=seconds))

    def count(self, at: float, **kinds: int) -> None:
        self.recording.counts.append(Count(at=at, breaker=STEADY, **(dict.fromkeys(KINDS, 0) | kinds)))

    def sample(self, at: float, **more: int) -> None:
        usual = {"pid": FIRST, "threads": 8, "sockets": 12, "idle": 5, "rss": 80 << 20}
        self.recording.samples.append(Sample(at=at, **(usual | more)))

    def broken(self) -> set[str]:
        """The rules that find something wrong with what there is, be it little."""
        return {violation.rule for violation in check(self.recording)} - ENOUGH


def opened(story: Story, at: float = 2.0) -> None:
    story.turn("OPEN", at)


def half_opened(story: Story) -> str:
    """From 3.0 on."""
    opened(story)
    return story.turn("HALF_OPEN", 3.0)
