"""What operators who watch the dashboard cost: the gateway under the same load with twenty of them, and with none.

* One gateway as in gateway.py, pressed by as many connections. In turns of one round, in random order, twenty sessions
  watch or nobody does.
* Each watcher has a kept-alive connection, as many in each worker, and asks as breaker.js does: every 0.9 s, with the
  session's cookie and the ETag of the answer before. Under load an answer is hardly ever the same again, so each is
  whole. Watchers share the machine's cores too.
* `CPU a poll`: the workers' processor time beyond what the same requests take unwatched, over the polls. In it is the
  one reading and rendering that all who watch a worker share, and who may see being looked up every 30 s.
"""

from __future__ import annotations

import dataclasses
import heapq
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import gateway
from tests.benchmarks.course import Course, Effort, Figure, Measured, Session, Times, Unit
from tests.benchmarks.load import presser, spread
from tests.benchmarks.players import Player, playing
from tests.programs import wait_for

WATCHERS = 20
EVERY = 0.9
WATCHED, UNWATCHED = f"gateway, {WATCHERS} watch", "gateway, nobody watches"
ROWS = (WATCHED, UNWATCHED)
LIVE = "/admin/breaker/live"
ROUNDS = 2
"""For each round of others: what is looked for is smaller than what a turn scatters."""
WINDOWS = 5
"""Of others, that one turn lasts: 10 s. pages.Door remembers for 30 s, so that it looks up more often than for who
watches on: what is measured is too much rather than too little."""
SIGN_IN = f"""
from django.contrib.auth.models import Group, User
from django.test import Client
for number in range({WATCHERS}):
    user = User.objects.create_user(f"watcher-{{number}}", is_staff=True)
    user.groups.add(Group.objects.get(name="Breaker operators"))
    client = Client()
    client.force_login(user)
    print("; ".join(f"{{name}}={{morsel.value}}" for name, morsel in client.cookies.items()))
"""

RATE = Course(
    name="watching-rate",
    title=f"Requests a second, {gateway.CONNECTIONS} connections, while {WATCHERS} operators watch",
    rows=ROWS,
    unit=Unit.A_SECOND,
    in_rounds=True,
    goals=(Times(peer=UNWATCHED, at_least=0.98),),
)
CPU = Course(
    name="watching-cpu",
    title=f"Processor time of a request, {gateway.CONNECTIONS} connections, while {WATCHERS} operators watch",
    rows=ROWS,
    in_rounds=True,
)
COURSES = (RATE, CPU)


def measure(courses: Sequence[Course], effort: Effort, url: str) -> Measured:
    with tempfile.TemporaryDirectory() as folder, gateway.site(Path(folder), url) as site:
        cookies = site.manage("shell", "-v0", "-c", SIGN_IN).split("\n")[:WATCHERS]
        served = gateway.Contestant(**site.serve("config.wsgi", DJANGO_SECURE_SSL_REDIRECT="false"), **site.consumer())
        wait_for(served.is_up, "the gateway serves")
        polls = [gateway.get(served.port, LIVE, f"Cookie: {cookie}", "Accept-Encoding: gzip") for cookie in cookies]
        casts: list[tuple[Any, ...]] = [
            (presser, served.port, served.request, gateway.CONNECTIONS, served.workers),
            (watchers, served.port, polls, served.workers),
        ]
        with playing(casts) as (pressing, watching):
            turns = _turns(served, pressing, watching, effort)
        rates = {row: Figure(values=[turn.requests / turn.wall for turn in turns[row]]) for row in ROWS}
        costs = {row: Figure(values=[turn.cpu / turn.requests for turn in turns[row]]) for row in ROWS}
        pairs = zip(turns[WATCHED], turns[UNWATCHED], strict=True)
        rates[WATCHED].beside["polls/s"] = statistics.mean(turn.polls / turn.wall for turn in turns[WATCHED])
        costs[WATCHED].beside["CPU a poll"] = statistics.median(
            (watched.cpu - alone.cpu / alone.requests * watched.requests) / watched.polls for watched, alone in pairs
        )
        for course, figures in ((RATE, rates), (CPU, costs)):
            if course in courses:
                yield course, figures


SESSION = Session(courses=COURSES, measure=measure, priced=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
    requests: int
    wall: float
    cpu: float
    """Seconds, of the workers."""
    polls: int


def _turns(served: gateway.Contestant, pressing: Player, watching: Player, effort: Effort) -> dict[str, list[Turn]]:
    turns: dict[str, list[Turn]] = {row: [] for row in ROWS}
    seconds = WINDOWS * effort.window_seconds
    order = random.Random(WATCHERS)
    for _ in range(effort.rounds * ROUNDS):
        for row in order.sample(ROWS, len(ROWS)):
            polls, before = 0, served.cpu()
            if row == WATCHED:
                watching.tell(seconds)
            pressed = pressing.ask(seconds)
            if row == WATCHED:
                polls = watching.hear()
            turns[row].append(
                Turn(requests=pressed.requests, wall=pressed.wall, cpu=served.cpu() - before, polls=polls)
            )
    return turns


# -- who watch ---------------------------------------------------------------------------------------------------------


def watchers(port: int, requests: list[bytes], workers: Sequence[int]) -> Generator[Any, Any, None]:
    """A role: sessions that ask for as many seconds as it is told; gives how often they did."""
    sockets = spread(port, requests[0], len(requests), workers).values()
    windows = [Window(sock, request) for sock, request in zip(sockets, requests, strict=True)]
    seconds = yield "ready"
    while seconds:
        seconds = yield _watch(windows, seconds)


class Window:
    """One operator's."""

    def __init__(self, sock: socket.socket, request: bytes) -> None:
        self._sock, self._request, self._etag = sock, request.removesuffix(b"\r\n"), b""

    def ask(self) -> None:
        self._sock.sendall(self._request + self._etag + b"\r\n")
        head, _, body = self._sock.recv(65536).partition(b"\r\n\r\n")
        status, fields = head[9:12], dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if status not in (b"200", b"304"):
            raise AssertionError(f"a poll went wrong: {head!r}")
        left = int(fields[b"content-length"]) - len(body) if status == b"200" else 0
        while left > 0:
            left -= len(self._sock.recv(65536))
        self._etag = b"If-None-Match: " + fields[b"etag"] + b"\r\n"


def _watch(windows: list[Window], seconds: float) -> int:
    """One after the other: the next that is due."""
    began = time.monotonic()
    due = [(began + EVERY * place / len(windows), place) for place in range(len(windows))]
    polls = 0
    while due[0][0] < began + seconds:
        moment, place = due[0]
        time.sleep(max(0.0, moment - time.monotonic()))
        windows[place].ask()
        heapq.heapreplace(due, (moment + EVERY, place))
        polls += 1
    return polls
