"""Callers that press both gateways at a steady rate, and write down what each of them got."""

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.acceptance.callers import call
from tests.acceptance.gateway import Gateway
from tests.chaos.recording import NO_ANSWER, Call

EVERY = 0.2
"""Seconds from one call of a caller to its next; who has waited longer for an answer leaves some out."""
GIVE_UP = 30.0
"""Seconds after which nobody waits any more for an answer."""


@dataclass(frozen=True)
class Part:
    """What some of the callers play: which breaker they go through, and with what options it is made."""

    breaker: str
    user: str
    method: str
    callers: int
    options: dict[str, Any]
    whole: bool
    """Whether the breaker's window holds the whole run, so that its totals can be compared with the callers'."""


OFTEN = {"timeout": 1, "reset_timeout": 1}
FOR_ALL_TIME = {"rolling_count_timeout": 3600, "rolling_count_buckets": 10}
BRISK = {**OFTEN, "rolling_count_timeout": 2, "rolling_count_buckets": 4, "error_threshold_percentage": 30}
# Opens soon although its window never forgets.
WHOLE = {**OFTEN, **FOR_ALL_TIME, "error_threshold_percentage": 4}
# Never opens: whatever happens to Redis or to workers, its calls go out.
STEADY = {**OFTEN, **FOR_ALL_TIME, "error_threshold_percentage": 100}
PARTS = (
    Part("MIFOS-Maker-get", "maker", "GET", callers=10, options=BRISK, whole=False),
    Part("MIFOS-Checker-get", "checker", "GET", callers=8, options=WHOLE, whole=True),
    Part("MIFOS-Maker-request", "maker", "HEAD", callers=6, options=STEADY, whole=True),
)
CALLERS = sum(part.callers for part in PARTS)


class Crowd:
    """`clock` gives seconds since the run began."""

    def __init__(self, gateways: Sequence[Gateway], clock: Callable[[], float]) -> None:
        self._gateways, self._clock = gateways, clock
        self._stopped = self.given_up = False
        self._pressing = threading.Event()
        self._changed = threading.Condition()
        self._running = 0
        self._calls: dict[str, Call] = {}
        self._threads = []
        for part in PARTS:
            for _ in range(part.callers):
                number = len(self._threads)
                thread = threading.Thread(target=self._run, args=(part, number), name=f"caller-{number}", daemon=True)
                self._threads.append(thread)

    def start(self) -> None:
        self._pressing.set()
        for thread in self._threads:
            thread.start()

    @property
    def calls(self) -> list[Call]:
        """Those that run still are taken as broken off just now."""
        now = self._clock()
        return [
            call if call.answered <= now else dataclasses.replace(call, answered=now)
            for call in list(self._calls.values())
        ]

    def hush(self, seconds: float = GIVE_UP) -> bool:
        """Whether nobody calls any more: with an answer that does not come a run is over."""
        self._pressing.clear()
        with self._changed:
            self.given_up = not self._changed.wait_for(lambda: self._running == 0, seconds)
        return not self.given_up

    def press(self) -> None:
        self._pressing.set()

    def stop(self) -> None:
        """Who has no answer when this returns will hear the gateway's end."""
        self._stopped = True
        if not self.given_up:
            self.hush()
        self._pressing.set()

    def _run(self, part: Part, number: int) -> None:
        due = time.monotonic() + EVERY * number / CALLERS
        turn = number
        while not self._stopped:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due + EVERY, time.monotonic())
            if not self._enter():
                continue
            try:
                self._call(part, turn % len(self._gateways), f"{number}-{turn}")
            finally:
                self._leave()
            turn += 1

    def _enter(self) -> bool:
        self._pressing.wait()
        with self._changed:
            if self._stopped or not self._pressing.is_set():
                return False
            self._running += 1
            return True

    def _leave(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def _call(self, part: Part, gateway: int, id: str) -> None:
        self._calls[id] = asked = Call(
            id=id,
            breaker=part.breaker,
            gateway=gateway,
            sent=self._clock(),
            answered=float("inf"),
            status=NO_ANSWER,
        )
        got = call(
            self._gateways[gateway], user=part.user, method=part.method, headers={"X-Request-ID": id}, path="offices/1"
        )
        self._calls[id] = dataclasses.replace(asked, answered=self._clock(), status=got.status, error=got.code)
