"""An outage with real processes: writes that were deferred in it, whoever is killed meanwhile, and what MIFOS has done.

Three consumers write through two gateways of two workers each, in fifty orders at once, each write with a key and
again until it is accepted; runners send what was accepted once MIFOS is back. Both while it is away and while it takes
what has waited for it, workers, runners and Redis are killed (SIGKILL) at instants that the seed chooses, and MIFOS
stumbles once it is back. Nobody is asked what should have happened: MIFOS's ledger is compared with what the
callers were told, and when.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.callers import ask, call
from tests.acceptance.gateway import CHECKOUT, Gateway, Runner, clean_environ, mifos_environ
from tests.programs import RedisServer

CONSUMERS = ("branch", "mobile", "back-office")
THREADS = 4
"""Of each consumer."""
PATIENCE = 60.0
"""Seconds for all that waits to end, after MIFOS is back."""
RATE = 400
MIFOS_TAKES = 0.02
"""Seconds for a write, so that some are under way whenever somebody is killed."""
OUTAGES: tuple[dict[str, Any], ...] = (
    {"mode": "error", "status": 503},
    {"mode": "hang"},
    {"mode": "reset"},
    {"mode": "reset", "where": "headers", "after": "effect"},
)
PREPARE = f"""
from django.core.management import call_command
from mifos_gateway import tokens
call_command("migrate", verbosity=0)
print(*[tokens.issue(name, maker=True) for name in {CONSUMERS!r}])
"""
ENDED = {"delivered"}
WAITING = "queued,replaying"


@dataclass(frozen=True, slots=True)
class Step:
    """`at`: seconds since its act began; `verb`: a method of Stage, `which`: its argument."""

    act: str
    at: float
    verb: str
    which: int = 0

    def __str__(self) -> str:
        return f"{self.act} {self.at:5.2f}  {self.verb} {self.which}"


def schedule(seed: int) -> tuple[dict[str, Any], list[Step]]:
    """How MIFOS fails, and who is killed when: from the seed alone."""
    chance = random.Random(seed)
    steps = []
    for act, seconds, verbs in (
        ("away", 3.0, ("kill_worker", "kill_worker", "kill_runner", "kill_redis")),
        ("back", 6.0, ("kill_worker", "kill_runner", "kill_runner", "kill_redis", "stumble")),
    ):
        steps += [Step(act, chance.uniform(0, seconds), verb, chance.randrange(4)) for verb in verbs]
    return chance.choice(OUTAGES), sorted(steps, key=lambda step: (step.act, step.at))


@dataclass(frozen=True, slots=True)
class Write:
    """One that was accepted: by whom it was asked for, when first, and when it was told so."""

    note: str
    order: int
    asked_at: float
    told_at: float
    status: int


@dataclass
class Account:
    """What became of it all. The lists are to be empty."""

    seed: int
    story: str
    accepted: int = 0
    """With a 202; the others got MIFOS's own answer."""
    effects: int = 0
    missing: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    undelivered: list[Any] = field(default_factory=list)
    sent_again: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    """From MIFOS's return until all had ended."""

    @property
    def wrong(self) -> dict[str, list[Any]]:
        found = {name: getattr(self, name) for name in ("missing", "repeated", "disordered", "undelivered")}
        return {name: what for name, what in found.items() if what}

    def __str__(self) -> str:
        wrong = "; ".join(f"{len(what)} {name}: {what[:5]}" for name, what in self.wrong.items()) or "all is well"
        return f"seed {self.seed}: {wrong}\n{self.story}"


def run(seed: int, folder: Path, *, database_url: str = "", writes: int = 500, orders: int = 50) -> Account:
    """One outage; `database_url`: of an empty PostgreSQL, else it is a file in the folder."""
    fault, steps = schedule(seed)
    story = "\n".join([f"MIFOS away: {json.dumps(fault)}", *map(str, steps)])
    account = Account(seed, story)
    with _stage(folder, database_url) as stage:
        stage.sandbox.set(processing_seconds=MIFOS_TAKES)
        stage.sandbox.set_faults(fault)
        with stage.hands([step for step in steps if step.act == "away"]):
            told = _write_all(stage, random.Random(seed), writes, orders)
        stage.sandbox.set_faults(mode="ok")
        began = time.monotonic()
        with stage.hands([step for step in steps if step.act == "back"]):
            _wait_for_the_end(stage, began + PATIENCE)
        account.seconds = time.monotonic() - began
        account.killed = stage.killed
        account.undelivered = [one for name in CONSUMERS for one in stage.listed(name) if one["status"] not in ENDED]
        _judge(account, told, stage)
    return account


def _judge(account: Account, told: list[Write], stage: Stage) -> None:
    effects = stage.control("ledger")["effects"]
    times = Counter(effect["note"] for effect in effects)
    account.effects = len(effects)
    account.accepted = sum(write.status == 202 for write in told)
    account.missing = [write.note for write in told if not times[write.note]]
    account.repeated = [note for note, count in times.items() if count > 1]
    account.disordered = list(_disordered(told, {effect["note"]: effect["number"] for effect in effects}))
    keys = Counter(row["key"] for row in stage.control("requests?last=20000")["requests"] if row["key"])
    account.sent_again = keys.total() - len(keys)


def _disordered(told: list[Write], places: dict[str, int]) -> Iterator[str]:
    """Of one order: what was done after something that was asked for when it had been accepted already."""
    of_order: dict[int, list[Write]] = defaultdict(list)
    for write in told:
        if write.note in places:
            of_order[write.order].append(write)
    for order in of_order.values():
        for first in order:
            for then in order:
                if first.told_at < then.asked_at and places[first.note] > places[then.note]:
                    yield f"{first.note} was done after {then.note}"


# -- the callers -------------------------------------------------------------------------------------------------------


def _write_all(stage: Stage, chance: random.Random, writes: int, orders: int) -> list[Write]:
    """Each consumer, in each order, one after the other; all of them at once."""
    chains: dict[tuple[str, int], list[str]] = defaultdict(list)
    for number in range(writes):
        order, turn = 1 + number % orders, number // orders
        name = CONSUMERS[(turn + order) % len(CONSUMERS)]
        chains[name, order].append(f"{name}/{order}/{turn}")
    told: list[Write] = []
    stop = threading.Event()

    def write(chain: tuple[tuple[str, int], list[str]]) -> None:
        (name, order), notes = chain
        for note in notes:
            if (one := _accepted(stage, name, order, note, stop)) is None:
                return
            told.append(one)

    shuffled = chance.sample(sorted(chains.items()), len(chains))
    try:
        with ThreadPoolExecutor(THREADS * len(CONSUMERS)) as threads:
            list(threads.map(write, shuffled))
    finally:
        stop.set()
    assert len(told) == writes, f"{writes - len(told)} writes were not accepted within {PATIENCE:.0f} s"
    return told


def _accepted(stage: Stage, name: str, order: int, note: str, stop: threading.Event) -> Write | None:
    """Again, by way of either gateway, with the same key, until there is an answer that ends it."""
    body = json.dumps({"transactionAmount": 1, "note": note}).encode()
    headers = stage.headers(name) | {
        "Content-Type": "application/json",
        "Prefer": "respond-async",
        "Idempotency-Key": note,
    }
    asked_at = time.monotonic()
    path = f"loans/{order}/transactions?command=repayment"
    while time.monotonic() < asked_at + PATIENCE:
        got = call(random.choice(stage.gateways), path, method="POST", headers=headers, body=body)
        if got.status in (200, 202):
            return Write(note, order, asked_at, time.monotonic(), got.status)
        assert got.status not in (400, 401, 403, 404, 422), got
        if stop.wait(0.05):
            break
    return None


def _wait_for_the_end(stage: Stage, deadline: float) -> None:
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            if not any(stage.count(name, WAITING) for name in CONSUMERS):
                return
        time.sleep(0.1)


# -- the processes -----------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    sandbox: Sandbox
    redis: RedisServer
    gateways: Sequence[Gateway]
    runners: Sequence[Runner]
    tokens: dict[str, str]
    killed: Counter[str] = field(default_factory=Counter)

    def headers(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Token {self.tokens[name]}"}

    def listed(self, name: str) -> list[dict[str, Any]]:
        """All deferred requests of a consumer."""
        found: list[dict[str, Any]] = []
        for page in range(1, 1_000):
            part = self._list(name, f"page_size=200&page={page}")
            found += part["results"]
            if part["next"] is None:
                break
        return found

    def count(self, name: str, statuses: str) -> int:
        return int(self._list(name, f"page_size=1&status={statuses}")["count"])

    def _list(self, name: str, query: str) -> Any:
        got = ask(random.choice(self.gateways), "GET", f"/api/v1/deferred-requests?{query}", self.headers(name))
        if got.status != 200:
            raise ValueError(got)
        return got.json

    def control(self, what: str) -> Any:
        """The sandbox's own account of itself, over HTTP."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self.sandbox.url.rpartition(":")[2]), timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", f"/__{what}")
            return json.loads(connection.getresponse().read())

    @contextlib.contextmanager
    def hands(self, steps: Sequence[Step]) -> Iterator[None]:
        """Does these things at their times, and all of them before it is left."""
        began, faults = time.monotonic(), []

        def do() -> None:
            try:
                for step in steps:
                    time.sleep(max(0.0, began + step.at - time.monotonic()))
                    getattr(self, step.verb)(step.which)
            except BaseException as fault:
                faults.append(fault)

        thread = threading.Thread(target=do)
        thread.start()
        try:
            yield
        finally:
            thread.join()
        if faults:
            raise faults[0]

    # What a hand does

    def kill_worker(self, which: int) -> None:
        workers = self.gateways[which % 2].workers
        with contextlib.suppress(IndexError, ProcessLookupError):  # one that was killed a moment ago
            os.kill(workers[which // 2], signal.SIGKILL)
            self.killed["workers"] += 1

    def kill_runner(self, which: int) -> None:
        runner = self.runners[which % len(self.runners)]
        runner.kill()
        self.killed["runners"] += 1
        runner.start()

    def kill_redis(self, which: int) -> None:
        self.redis.kill()
        self.killed["Redis"] += 1
        time.sleep(0.3 * which)
        self.redis.start()

    def stumble(self, which: int) -> None:
        """MIFOS does some and loses the answer, and then fails in some: those behind must not overtake them."""
        some = {"methods": ["POST"], "times": 2 + which}
        self.sandbox.set_faults({"mode": "reset", "after": "effect"} | some, {"mode": "error"} | some)


@contextlib.contextmanager
def _stage(folder: Path, database_url: str) -> Iterator[Stage]:
    with contextlib.ExitStack() as ends:
        sandbox = ends.enter_context(Sandbox(port=0))
        redis = RedisServer(folder)
        ends.callback(redis.kill)
        environ = mifos_environ(sandbox) | {
            "REDIS_URL": redis.url,
            "DATABASE_URL": database_url or f"sqlite:///{folder / 'db.sqlite3'}",
            "DJANGO_SECRET_KEY": "of all processes, so that each can read what the others have accepted",
            "GATEWAY_DEFERRED_ROUTES": "POST loans/*",
            "GATEWAY_DEFERRED_GRACE": "2",
            "GATEWAY_BULKHEAD": "8",
            "BREAKER_TIMEOUT": "1",
            "BREAKER_RESET_TIMEOUT": "1",
            "GUNICORN_GRACEFUL_TIMEOUT": "2",
        }
        tokens = prepared(environ)
        with ThreadPoolExecutor(2) as both:
            begun = [both.submit(Gateway, folder, environ, "none of its own") for _ in range(2)]
            gateways = []
            for one in begun:
                gateways.append(one.result())
                ends.callback(gateways[-1].stop)
        runners = []
        for gateway in gateways:
            runners.append(Runner(gateway, f"--rate={RATE}", "--threads=6"))
            ends.callback(runners[-1].stop)
        yield Stage(sandbox, redis, gateways, runners, tokens)


def prepared(environ: dict[str, str]) -> dict[str, str]:
    """A database with its tables, and each consumer's token."""
    made = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v0", "-c", PREPARE],
        env=clean_environ(DJANGO_DEBUG="true", **environ),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return dict(zip(CONSUMERS, made.stdout.split()[-len(CONSUMERS) :], strict=True))
