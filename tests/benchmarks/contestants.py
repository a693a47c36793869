"""Who takes part: each library made and used as its own documentation says, with its own defaults.

Only the wait before a trial is longer (600 s), so that a circuit stays open while rejections are measured, and
baldur-framework's admin server, which listens on a fixed port, is off.
"""

from __future__ import annotations

import functools
import http.client
import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
import requests

STAYS_OPEN = 600
JOINED_WITHIN = 60.0

UNGUARDED = "unguarded"
ROUND_TRIP = "bare round trip"
OURS = "ours, Redis"
OURS_ALONE = "ours, memory"
PYBREAKER = "pybreaker, memory"
PYBREAKER_REDIS = "pybreaker, Redis"
INTERLOCK = "interlock-cb, memory"
INTERLOCK_REDIS = "interlock-cb, Redis"
BALDUR_REDIS = "baldur-framework, Redis"
NOPANIC_REDIS = "nopanic-redis, Redis"
OPOSSUM = "opossum (Node), memory"

GUARDED = "ours, OpenTelemetry off"
UNSAMPLED = "ours, on, nothing sampled"
TRACED = "ours, on, all sampled"

OUR_CLIENT = "ours, MifosClient"
REQUESTS = "requests.Session"
HTTP_CLIENT = "http.client"

OPOSSUM_FOLDER = Path(__file__).with_name("opossum")
"""Where `make bench` installs it, if npm is there."""


def crowd(who: str, count: int) -> str:
    """The row of a contestant with so many breakers."""
    return f"{who}, {count:,} breakers"


def status(who: str, count: int) -> str:
    return f"status of {count:,} breakers, {who.removeprefix('ours, ')}"


class Down(Exception):
    """The guarded function failed."""


def answer() -> None:
    """What every contestant guards."""


def fail() -> None:
    raise Down


@dataclass(frozen=True, kw_only=True)
class Guard:
    """One contestant, ready to be called."""

    call: Callable[[Callable[[], Any]], Any]
    rejection: type[Exception] | tuple[()] = ()
    """What a rejected call raises; (): nothing is ever rejected."""
    settle: Callable[[], Any] = lambda: None
    """Do now what a call has put off. Part of its price, so it is run before the clock is stopped."""

    def trip(self) -> None:
        """Fail until it is open, as in life."""
        for _ in range(100):
            try:
                self.call(fail)
            except self.rejection:
                return
            except Down:
                continue
        raise AssertionError("it does not open")


def _unguarded(name: str, url: str) -> Guard:
    return Guard(call=lambda func: func())


def _round_trip(name: str, url: str) -> Guard:
    ping = connect(url).ping
    return Guard(call=lambda func: ping())


def _ours(name: str, url: str) -> Guard:
    breaker = our_breaker(name, url)
    # Reading the counters folds what calls left for the background to count.
    return Guard(call=breaker.call, rejection=_call_rejected(), settle=lambda: breaker.success_counter)


def _ours_alone(name: str, url: str) -> Guard:
    return _ours(name, "")


def _guarded(name: str, url: str) -> Guard:
    """As a caller has it: a function and its breaker in one."""
    breaker = our_breaker(name, url)
    from breaker.registry import create_circuit_breaker

    func = create_circuit_breaker(answer, name=name, reset_timeout=STAYS_OPEN)
    return Guard(call=lambda _: func(), settle=lambda: breaker.success_counter)


def _traced(name: str, url: str, *, sampler: str = "always_on") -> Guard:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace import TracerProvider, sampling
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Encoder(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            encode_spans(spans).SerializeToString()
            return SpanExportResult.SUCCESS

    _configure_django(url, OPENTELEMETRY=True)
    provider = TracerProvider(sampler=sampling.ALWAYS_ON if sampler == "always_on" else sampling.ALWAYS_OFF)
    provider.add_span_processor(BatchSpanProcessor(Encoder()))
    trace.set_tracer_provider(provider)
    return _guarded(name, url)


def _our_crowd(count: int, name: str, url: str) -> Guard:
    breakers = our_breakers((f"{name}-{number}" for number in range(count)), url)
    # Reading one's counters folds what calls of all left to count.
    return one_after_the_other(
        [Guard(call=breaker.call, settle=lambda: breakers[0].success_counter) for breaker in breakers]
    )


def _pybreaker(name: str, url: str) -> Guard:
    import pybreaker

    breaker = pybreaker.CircuitBreaker(name=name, reset_timeout=STAYS_OPEN)
    return Guard(call=breaker.call, rejection=pybreaker.CircuitBreakerError)


def _pybreaker_redis(name: str, url: str) -> Guard:
    import pybreaker

    storage = pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, connect(url), namespace=name)
    breaker = pybreaker.CircuitBreaker(name=name, reset_timeout=STAYS_OPEN, state_storage=storage)
    return Guard(call=breaker.call, rejection=pybreaker.CircuitBreakerError)


def _interlock(name: str, url: str) -> Guard:
    import interlock

    breaker = interlock.CircuitBreaker(name=name, config=interlock.Config(wait_duration_in_open=STAYS_OPEN))
    return Guard(call=breaker.call, rejection=interlock.CircuitOpenError)


def _interlock_redis(name: str, url: str) -> Guard:
    import interlock

    breaker = interlock.CircuitBreaker(
        name=name, config=interlock.Config(wait_duration_in_open=STAYS_OPEN), storage=_interlock_storage(url)
    )
    return Guard(call=breaker.call, rejection=interlock.CircuitOpenError)


def _baldur_redis(name: str, url: str) -> Guard:
    os.environ |= {
        "BALDUR_REDIS_URL": url,
        "BALDUR_ADMIN_AUTOSTART": "0",
        "BALDUR_CB_RECOVERY_TIMEOUT": str(STAYS_OPEN),
        "BALDUR_METRICS_SNAPSHOT_DIR": tempfile.gettempdir(),  # not a folder in the checkout
    }
    import baldur
    from baldur.services.circuit_breaker.exceptions import CircuitBreakerOpenError

    baldur.init()
    return Guard(call=functools.partial(baldur.protect, name), rejection=CircuitBreakerOpenError)


def _nopanic_redis(name: str, url: str) -> Guard:
    import nopanic
    import nopanic_redis

    breaker = nopanic_redis.redis_circuit_breaker(connect(url), name=name, reset_timeout=STAYS_OPEN)
    return Guard(call=breaker.call, rejection=nopanic.CircuitOpen)


def one_after_the_other(guards: list[Guard]) -> Guard:
    """Each call goes to the next of several breakers."""
    turns: Iterator[Callable[..., Any]] = itertools.cycle([guard.call for guard in guards])
    return Guard(call=lambda func: next(turns)(func), rejection=guards[0].rejection, settle=guards[0].settle)


def _pybreaker_crowd(count: int, name: str, url: str) -> Guard:
    return one_after_the_other([_pybreaker(f"{name}-{number}", url) for number in range(count)])


@functools.cache
def _interlock_storage(url: str) -> Any:
    from interlock.integrations.redis import RedisStorage

    return RedisStorage(connect(url))


def _status(count: int, name: str, url: str) -> Guard:
    from breaker import queries

    for breaker in our_breakers((f"{name}-{number}" for number in range(count)), url):
        for _ in range(100):
            breaker.call(answer)
    return Guard(call=lambda func: queries.status().as_dict())


def _status_alone(count: int, name: str, url: str) -> Guard:
    return _status(count, name, "")


def make_caller(who: str, url: str, limit: float | None) -> Callable[[], Any]:
    """What makes one HTTP call to `url`/clients on a kept connection, within a limit where one is given."""
    if who == OUR_CLIENT:
        from mifos_gateway.client import MifosClient
        from tests.mifos_gateway.peer import config

        send = MifosClient(config(url)).send
        return lambda: send("maker", "GET", "clients", timeout=limit or 30.0).content
    if who == REQUESTS:
        session = requests.Session()
        session.auth = ("maker", "secret")
        session.headers["Fineract-Platform-TenantId"] = "default"
        return lambda: session.get(f"{url}/clients", timeout=limit).content
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=limit)

    def call() -> bytes:
        connection.request("GET", f"{parts.path}/clients", headers={"Fineract-Platform-TenantId": "default"})
        return connection.getresponse().read()

    return call


def _over_http(who: str, name: str, url: str) -> Guard:
    call = make_caller(who, url, None)
    return Guard(call=lambda func: call())


MAKERS: dict[str, Callable[[str, str], Guard]] = {
    UNGUARDED: _unguarded,
    ROUND_TRIP: _round_trip,
    OURS: _ours,
    OURS_ALONE: _ours_alone,
    GUARDED: _guarded,
    TRACED: _traced,
    UNSAMPLED: functools.partial(_traced, sampler="always_off"),
    PYBREAKER: _pybreaker,
    PYBREAKER_REDIS: _pybreaker_redis,
    INTERLOCK: _interlock,
    INTERLOCK_REDIS: _interlock_redis,
    BALDUR_REDIS: _baldur_redis,
    NOPANIC_REDIS: _nopanic_redis,
    **{who: functools.partial(_over_http, who) for who in (OUR_CLIENT, REQUESTS, HTTP_CLIENT)},
}
"""Name to what makes it, given the breaker's name and the address of the one Redis. (opossum: see opossum.py.)"""

CROWD_MAKERS: dict[str, tuple[Callable[[int, str, str], Guard], int]] = {
    **{status(OURS, count): (_status, count) for count in (12, 1_000)},
    **{status(OURS_ALONE, count): (_status_alone, count) for count in (12, 1_000)},
    **{crowd(OURS, count): (_our_crowd, count) for count in (12, 1_000, 10_000)},
    **{crowd(PYBREAKER, count): (_pybreaker_crowd, count) for count in (12, 1_000, 10_000)},
}
"""The same for many breakers, given their number first."""


def make(row: str, name: str, url: str, *, share: float = 1.0) -> Guard:
    """The contestant of a row. `share`: of the breakers that the row names."""
    if row in CROWD_MAKERS:
        maker, count = CROWD_MAKERS[row]
        return maker(max(2, round(count * share)), name, url)
    return MAKERS[row](name, url)


_PACKAGES = {BALDUR_REDIS: "baldur", NOPANIC_REDIS: "nopanic_redis"}


def missing(name: str) -> str:
    """Why a contestant cannot take part here; empty when it can."""
    if name in _PACKAGES and importlib.util.find_spec(_PACKAGES[name]) is None:
        return f"not here: {_PACKAGES[name]} is not installed"
    if name == OPOSSUM and shutil.which("node") is None:
        return "not here: there is no node"
    if name == OPOSSUM and not (OPOSSUM_FOLDER / "node_modules" / "opossum").exists():
        return "not here: npm has not installed it (make bench does)"
    return ""


def node_versions() -> dict[str, str]:
    if missing(OPOSSUM):
        return {}
    ask = "console.log(process.version + ' ' + require('opossum/package.json').version)"
    told = subprocess.run(["node", "-e", ask], cwd=OPOSSUM_FOLDER, capture_output=True, text=True, check=True)
    node, opossum = told.stdout.split()
    return {"node": node.removeprefix("v"), "opossum": opossum}


def connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=5)


def empty(url: str) -> None:
    """Nothing that an earlier course left there, and no process that is taken for alive, shall be in a figure."""
    with connect(url) as client:
        client.flushall()


def our_breaker(name: str, url: str, **options: Any) -> Any:
    """A breaker from the registry, over the connection that production's settings make; without `url` in memory."""
    return our_breakers([name], url, **options)[0]


def our_breakers(names: Iterable[str], url: str, **options: Any) -> list[Any]:
    made = make_our_breakers(names, url, **options)
    join(url)
    return made


def make_our_breakers(names: Iterable[str], url: str, **options: Any) -> list[Any]:
    """The same, and nothing starts yet."""
    _configure_django(url)
    from breaker.registry import create_circuit_breaker

    return [create_circuit_breaker(name=name, **{"reset_timeout": STAYS_OPEN, **options}).breaker for name in names]


def join(url: str) -> None:
    """Take up the shared state, and wait until it is followed."""
    from breaker.registry import registry

    ends = time.monotonic() + JOINED_WITHIN
    registry.start()
    while url and not registry.sync.sharing:
        if time.monotonic() > ends:
            raise TimeoutError(f"the shared state was not taken up within {JOINED_WITHIN:.0f} s")
        time.sleep(0.001)


def _configure_django(url: str, **breaker: Any) -> None:
    import django
    from django.conf import settings

    from config import addresses

    if settings.configured:
        return
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "breaker"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:bench?mode=memory&cache=shared"}},
        CACHES={"breaker": addresses.redis_cache(url, None, None)} if url else {},
        BREAKER={"NAMESPACE": "bench", **breaker},
        USE_TZ=True,
    )
    django.setup()
    _make_tables()


def _make_tables() -> None:
    """Where the background looks what operators said of breakers that Redis does not know."""
    from django.db import connection

    from breaker.models import OperatorAct

    with connection.schema_editor() as editor:
        editor.create_model(OperatorAct)


def _call_rejected() -> type[Exception]:
    from breaker.engine.circuit import CallRejected

    return CallRejected
