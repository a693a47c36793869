"""The wall-clock limit of a call to MIFOS: how far it is overshot, and what it costs, beside requests by itself.

* Overshoot: how long after the limit (0.1 s) the caller had its error, from a peer that takes the request and says
  nothing, one whose headers drip in byte by byte, and one whose body does. 4 threads call at once. requests' own
  timeout bounds each wait for a byte, so it stands beside ours as a reader would use it, `timeout=` the limit; the
  dripping stops after 1 s. `spinning`: 8 more threads of the caller's process never pause.
* Price: a small JSON answer over a kept connection on loopback, the server in a process of its own; what guards the
  whole call stands in ours, and nothing does in the others'.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.benchmarks import contestants, turns
from tests.benchmarks.course import Course, Effort, Figure, Measured, Session
from tests.benchmarks.players import playing
from tests.benchmarks.propagation import BUSY_THREADS, work
from tests.benchmarks.turns import Drill
from tests.mifos_gateway.peer import Connection, Peer, answer

LIMIT = 0.1
DRIPS_FOR = 1.0
CALLERS = 4
CALLS = 25
"""Of each caller."""
BODY = b'{"totalFilteredRecords":1,"pageItems":[{"id":1,"accountNo":"000000001","displayName":"client 1"}]}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

OURS, REQUESTS = contestants.OUR_CLIENT, contestants.REQUESTS
SPINNING = f"{OURS}, spinning"


def _overshoot(name: str, what: str) -> Course:
    return Course(
        name=f"deadline-{name}",
        title=f"Beyond a limit of {LIMIT} s, {what}",
        rows=(OURS, SPINNING, REQUESTS),
        ranks=(99, 100),
    )


SILENT = _overshoot("silent", "a peer that says nothing")
HEADERS = _overshoot("headers", "headers that drip")
DRIPPING = _overshoot("body", "a body that drips")
PRICE = Drill(
    name="deadline-price",
    title="A call over HTTP, answered at once",
    rows=(OURS, REQUESTS, contestants.HTTP_CLIENT),
)
COURSES = (SILENT, HEADERS, DRIPPING, PRICE)


def measure(courses: Sequence[Course], effort: Effort, url: str) -> Measured:
    for course in courses:
        with playing([(peer, course.name)]) as (serving,):
            here = serving.ask("where")
            if isinstance(course, Drill):
                yield course, turns.press_in_turns(course, effort, here)
            else:
                yield course, {row: _late(course, row, effort, here) for row in course.rows}


SESSION = Session(courses=COURSES, measure=measure)


def _late(course: Course, row: str, effort: Effort, url: str) -> Figure:
    who = OURS if row == SPINNING else row
    calls = effort.some(CALLS, at_least=1)
    # One call takes until the dripping ends: fewer of them say the same.
    with playing([(caller, who, row == SPINNING, max(1, calls // 5) if who == REQUESTS else calls, url)]) as (calling,):
        return Figure(values=calling.ask("call"))


# -- in the processes --------------------------------------------------------------------------------------------------


def caller(who: str, spinning: bool, calls: int, url: str) -> Generator[Any, Any, None]:
    """Answers by how many seconds each of its calls was late."""
    call = contestants.make_caller(who, url, LIMIT)
    if spinning:
        for _ in range(BUSY_THREADS):
            threading.Thread(target=_spin, daemon=True).start()

    def late() -> float:
        began = time.monotonic()
        with contextlib.suppress(Exception):  # whatever the library's timeout is called
            call()
        return time.monotonic() - began - LIMIT

    order = yield "ready"
    while order:
        with ThreadPoolExecutor(CALLERS) as pool:
            order = yield [max(each, 1e-9) for each in pool.map(lambda _: late(), range(CALLERS * calls))]


def _spin() -> None:
    while True:
        work()


def peer(name: str) -> Generator[Any, Any, None]:
    serving = Peer(_SCRIPTS[name])
    try:
        yield "ready"
        while True:
            yield serving.url
    finally:
        serving.close()


def _drip(connection: Connection, data: bytes) -> None:
    ends = time.monotonic() + DRIPS_FOR
    for place in range(len(data)):
        if time.monotonic() > ends or connection.hung_up(0.02):
            return
        connection.send(data[place : place + 1])


def _drip_headers(connection: Connection) -> None:
    for _ in connection.requests():
        _drip(connection, HEAD % len(BODY) + BODY)
        return


def _drip_body(connection: Connection) -> None:
    for _ in connection.requests():
        connection.send(HEAD % len(BODY))
        _drip(connection, BODY)
        return


_SCRIPTS: dict[str, Callable[[Connection], None]] = {
    SILENT.name: Connection.stay,
    HEADERS.name: _drip_headers,
    DRIPPING.name: _drip_body,
    PRICE.name: answer(HEAD % len(BODY) + BODY),
}
