"""What deferred writes cost, and twenty outages.

* Accepting: a gateway as in gateway.py takes POSTs with `Prefer: respond-async, wait=0`, so that each is a commit and a
  202; `direct write` is the same POST by the same gateway (on SQLite) that MIFOS answers at once. Neither has a key.
* Sending: a real `manage.py deliver_deferred` with a rate that it does not reach, and a table that does not run empty,
  in fifty orders. Counted are those that have ended, in windows, once it has come up to speed.
* A look: `delivery.lease` for eight threads in one process, its leases included, and given back after the clock has
  stopped. PostgreSQL has been analysed since the table was filled, as autovacuum does within a minute.
* Outages: see tests/acceptance/outage.py; seeds 1 to 20, on PostgreSQL and SQLite in turn. The time is from MIFOS's
  return until all have ended. `effects`, and what was wrong with them, are in MIFOS's own ledger.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.devserver import Child
from tests.acceptance import outage
from tests.benchmarks import gateway
from tests.benchmarks.course import Book, Course, Effort, Figure, Measured, Session, Unit, Verdict, Within
from tests.benchmarks.load import Pressed, presser
from tests.benchmarks.players import Player, playing
from tests.programs import PostgresServer, wait_for

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
DATABASES = (POSTGRESQL, SQLITE)
DIRECT = "direct write"
CLIENTS = "/api/v1/mifos/maker/clients"
RATE = 2_000
THREADS = {8: "8 threads", 1: "1 thread"}
WAITING, MANY = 100_000, 6_000
SHAPES = ("nothing waits", f"{WAITING:,} in 50 orders", f"{WAITING:,} behind one")
WINDOWS = 3
"""For each of others."""
WARM_UP = 2.5
"""Windows."""
LOOK_AT_MOST = 0.02
RUNS, WRITES = 20, 500
OUTAGE_ROW = f"{WRITES} writes in 50 orders"
WRONG = ("missing", "repeated", "disordered", "undelivered")


@dataclass(frozen=True, kw_only=True)
class NoneWrong:
    """What may not happen even once."""

    row: str

    def judge(self, course: Course, book: Book) -> Verdict | None:
        figure = book.get(course.name, {}).get(self.row)
        if figure is None or not figure.values:
            return None
        found = {name: int(figure.beside[name]) for name in WRONG}
        said = ", ".join(f"{count} {name}" for name, count in found.items())
        return Verdict(met=not any(found.values()), goal=f"not one {' or '.join(WRONG)}", found=said)


ACCEPT = Course(
    name="deferred-accept",
    title=f"Writes accepted a second, {gateway.CONNECTIONS} connections",
    rows=(*(f"202, {database}" for database in DATABASES), DIRECT),
    unit=Unit.A_SECOND,
    in_rounds=True,
)
REPLAY = Course(
    name="deferred-replay",
    title="Deferred writes sent a second, by one runner",
    rows=tuple(f"{said}, {database}" for database in DATABASES for said in THREADS.values()),
    unit=Unit.A_SECOND,
)
LOOK = Course(
    name="deferred-look",
    title="A runner's look at the table",
    rows=tuple(f"{shape}, {database}" for shape in SHAPES for database in DATABASES),
    ranks=(90, 99),
    goals=tuple(
        Within(row=f"{shape}, {database}", rank=50, at_most=LOOK_AT_MOST) for shape in SHAPES for database in DATABASES
    ),
)
OUTAGES = Course(
    name="deferred-outage",
    title="From MIFOS's return until all have ended, whoever is killed",
    rows=(OUTAGE_ROW,),
    ranks=(90, 100),
    goals=(NoneWrong(row=OUTAGE_ROW),),
)
COURSES = (ACCEPT, REPLAY, LOOK, OUTAGES)


def measure(courses: Sequence[Course], effort: Effort, url: str) -> Measured:
    with tempfile.TemporaryDirectory() as folder, _postgres(Path(folder)) as server:
        urls = {SQLITE: "", POSTGRESQL: server.url if server else None}
        for course in courses:
            yield course, _MEASURES[course.name](effort, url, urls)


SESSION = Session(courses=COURSES, measure=measure, priced=False)

Urls = dict[str, str | None]
"""Of databases: "" is a file to be made, None is not here."""
MISSING = "not here: there is no PostgreSQL"


def _rows(course: Course, found: dict[str, Figure]) -> dict[str, Figure]:
    return {row: found.get(row, Figure(missing=MISSING)) for row in course.rows}


@contextlib.contextmanager
def _postgres(folder: Path) -> Iterator[PostgresServer | None]:
    try:
        server = PostgresServer(folder)
    except (pytest.skip.Exception, pytest.fail.Exception):
        yield None
        return
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def _sites(redis_url: str, urls: Urls) -> Iterator[dict[str, gateway.Site]]:
    """One with each database that is here; only writes that wait are theirs to defer."""
    with contextlib.ExitStack() as ends:
        sites = {}
        for name, url in urls.items():
            if url is not None:
                folder = Path(ends.enter_context(tempfile.TemporaryDirectory()))
                more = {"GATEWAY_DEFERRED_ROUTES": "POST *", "BREAKER_NAMESPACE": f"deferred-{name}"}
                more |= {"DATABASE_URL": url} if url else {}
                sites[name] = ends.enter_context(gateway.site(folder, redis_url, **more))
        yield sites


# -- accepting ---------------------------------------------------------------------------------------------------------


def _accept(effort: Effort, redis_url: str, urls: Urls) -> dict[str, Figure]:
    with _sites(redis_url, urls) as sites:
        found: dict[str, tuple[gateway.Contestant, bytes, int]] = {}
        for name, site in sites.items():
            served = gateway.Contestant(**site.serve("config.wsgi"), **site.consumer())
            found[f"202, {name}"] = served, _post(served, "Prefer: respond-async, wait=0"), 202
            if name == SQLITE:
                found[DIRECT] = served, _post(served), 200
        for served, _, _ in found.values():
            wait_for(served.is_up, "the gateway serves")
        casts = [
            (presser, served.port, request, gateway.CONNECTIONS, served.workers, status)
            for served, request, status in found.values()
        ]
        rates: dict[str, Figure] = {row: Figure() for row in found}
        order = random.Random(WAITING)
        with playing(casts) as pressers:
            for _ in range(effort.rounds):
                for row, player in order.sample(list(zip(found, pressers, strict=True)), len(found)):
                    pressed: Pressed = player.ask(effort.window_seconds / 2)
                    rates[row].values.append(pressed.requests / pressed.wall)
    return _rows(ACCEPT, rates)


def _post(served: gateway.Contestant, *fields: str) -> bytes:
    body = b'{"officeId":1,"fullname":"Asha Rao","active":false}'
    fields = (f"Authorization: Token {served.token}", "Content-Type: application/json", *fields)
    head = gateway.get(served.port, CLIENTS, *fields, f"Content-Length: {len(body)}")
    return head.replace(b"GET ", b"POST ", 1) + body


# -- sending, and looking ----------------------------------------------------------------------------------------------


def table(environ: dict[str, str]) -> Generator[Any, Any, None]:
    """A role: does what waiting.py can, by name."""
    os.environ.update(environ | {"DJANGO_SETTINGS_MODULE": "config.settings"})
    import django

    django.setup()
    from tests.benchmarks import waiting  # needs Django's settings

    order = yield "ready"
    while order:
        act, *words = order
        order = yield getattr(waiting, act)(*words)


def _fill(player: Player, count: int) -> None:
    while count > 0:
        player.ask(("fill", min(count, 5_000)))
        count -= 5_000
    player.ask(("tidy",))


def _replay(effort: Effort, redis_url: str, urls: Urls) -> dict[str, Figure]:
    rates: dict[str, Figure] = {}
    with _sites(redis_url, urls) as sites:
        for name, site in sites.items():
            with playing([(table, site.environ)]) as (player,):
                for threads, said in THREADS.items():
                    _fill(player, effort.some(MANY, at_least=500))
                    rates[f"{said}, {name}"] = _sent(site, player, threads, effort)
                    player.ask(("clear",))
    return _rows(REPLAY, rates)


def _sent(site: gateway.Site, player: Player, threads: int, effort: Effort) -> Figure:
    words = ["manage.py", "deliver_deferred", f"--threads={threads}", f"--rate={RATE}"]
    runner = Child("runner", [sys.executable, *words], site.environ, site.folder / f"runner-{threads}.log")
    site.children.append(runner)
    try:
        wait_for(lambda: player.ask(("ended",)) > 0, "the runner sends")
        time.sleep(WARM_UP * effort.window_seconds)
        rates = []
        for _ in range(WINDOWS * effort.windows):
            began, before = time.perf_counter(), player.ask(("ended",))
            time.sleep(effort.window_seconds)
            rates.append((player.ask(("ended",)) - before) / (time.perf_counter() - began))
    finally:
        runner.stop(within=10)
    return Figure(values=rates)


def _look(effort: Effort, redis_url: str, urls: Urls) -> dict[str, Figure]:
    taken: dict[str, Figure] = {}
    with _sites(redis_url, urls) as sites:
        for name, site in sites.items():
            with playing([(table, site.environ)]) as (player,):
                for shape in SHAPES:
                    if shape == SHAPES[1]:
                        _fill(player, effort.some(WAITING))
                    if shape == SHAPES[2]:
                        player.ask(("put_behind_one",))
                        player.ask(("tidy",))
                    taken[f"{shape}, {name}"] = Figure(values=player.ask(("look", effort.window_seconds)))
    return _rows(LOOK, taken)


# -- outages -----------------------------------------------------------------------------------------------------------


def _outages(effort: Effort, redis_url: str, urls: Urls) -> dict[str, Figure]:
    seconds: list[float] = []
    counts: Counter[str] = Counter(dict.fromkeys(WRONG, 0))
    for seed in range(1, 1 + effort.some(RUNS, at_least=1)):
        with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as ends:
            folder = Path(name)
            server = ends.enter_context(_postgres(folder)) if seed % 2 and urls[POSTGRESQL] else None
            account = outage.run(
                seed,
                folder,
                database_url=server.url if server else "",
                writes=effort.some(WRITES, at_least=50),
            )
        if account.wrong:
            print(account, file=sys.stderr, flush=True)
        seconds.append(account.seconds)
        counts += Counter({f"killed {what}": count for what, count in account.killed.items()})
        counts += Counter(runs=1, effects=account.effects, **{"sent again": account.sent_again})
        counts.update({name: len(getattr(account, name)) for name in WRONG})
    return {OUTAGE_ROW: Figure(values=seconds, beside={name: float(count) for name, count in counts.items()})}


_MEASURES = {ACCEPT.name: _accept, REPLAY.name: _replay, LOOK.name: _look, OUTAGES.name: _outages}
