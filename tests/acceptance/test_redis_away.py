"""Redis killed, paused, emptied, read-only, talking nonsense, never there: no call under load fails or waits for it."""

import contextlib
import re
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.callers import Got, Load, call, get
from tests.acceptance.gateway import Gateway, mifos_environ
from tests.chaos.recorders import Canary, Queue
from tests.chaos.recording import Stall
from tests.programs import RedisServer, free_port, wait_for

LOST = "Shared breaker state lost"
BACK = "Shared breaker state is back"
PROMISED = 0.1
BUSY = 0.25
"""Seconds that two workers, Redis, MIFOS and the callers on two cores may add to the 100 ms that are promised."""


class Site:
    """A gateway of two workers, its own Redis, and a MIFOS; each test leaves it whole."""

    def __init__(self, gateway: Gateway, redis: RedisServer, mifos: Sandbox) -> None:
        self.gateway, self.redis, self.mifos = gateway, redis, mifos
        self._read = 0

    def state(self) -> str:
        return self.gateway.status()["maker"]["get"]["state"]

    def begin(self) -> None:
        self.mifos.set_faults(mode="ok")
        wait_for(self.gateway.is_shared, "the state is shared")
        self._read = len(self.gateway.log)

    def told(self, text: str) -> Counter[int]:
        """How often each worker has said that since the test began."""
        pattern = rf"\[(\d+)\] \[\S+\] breaker: {text}"
        return Counter(int(pid) for pid in re.findall(pattern, self.gateway.log[self._read :]))

    def each_told_once(self, text: str) -> bool:
        return self.told(text) == Counter(self.gateway.workers)


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, copy_database: Callable[[Path], object], token: str
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    copy_database(folder)
    redis = RedisServer(folder)
    with Sandbox() as mifos:
        environ = {
            "REDIS_URL": redis.url,
            "WEB_THREADS": "16",
            "GATEWAY_BULKHEAD": "16",  # whatever is rejected here is rejected for Redis's sake
            "BREAKER_RESET_TIMEOUT": "300",
            "BREAKER_OPTIONS": '{"MIFOS-Maker-get": {"volume_threshold": 100000}}',
        }
        gateway = Gateway(folder, mifos_environ(mifos) | environ, token)
        yield Site(gateway, redis, mifos)
        gateway.stop()
    redis.kill()


@pytest.fixture
def site(running: Site) -> Site:
    running.begin()
    return running


@pytest.fixture
def load(site: Site) -> Iterator[Load]:
    """Four callers that press all the time; at the end none of them may have noticed anything.

    A third of their calls fail at MIFOS, so that there is always something that Redis should hear at once.
    """
    site.mifos.set_faults(mode="error", rate=0.33)
    with Load([site.gateway]) as load, stalls(site.gateway) as found:
        load.more(100)
        usual = sorted(got.seconds for got in load.answers)[len(load.answers) // 2]
        yield load
        load.more(100)
    assert set(load.statuses) == {200, 500}
    assert {got.code for got in load.answers} == {""}
    starved = min(1.0, 3 * max((stall.seconds for stall in found), default=0.0))
    assert max(got.seconds for got in load.answers) < usual + PROMISED + BUSY + starved


@contextlib.contextmanager
def stalls(gateway: Gateway) -> Iterator[list[Stall]]:
    """When a thread here woke late, and when the workers' threads waited for a processor."""
    found: list[Stall] = []
    canary, queue = Canary(time.monotonic), Queue([gateway.process.pid], time.monotonic)
    try:
        yield found
    finally:
        canary.stop()
        queue.stop()
        found += [*canary.stalls, *queue.stalls]


def ready(site: Site) -> tuple[int, str]:
    got = get(site.gateway, "/readyz")
    return got.status, got.json["checks"]["redis"]


# -- it goes away and comes back ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def killed(redis: RedisServer) -> Iterator[None]:
    redis.kill()
    try:
        yield
    finally:
        redis.start()


@contextlib.contextmanager
def paused(redis: RedisServer) -> Iterator[None]:
    redis.pause()
    try:
        yield
    finally:
        redis.resume()


@contextlib.contextmanager
def without_a_replica(redis: RedisServer) -> Iterator[None]:
    """Every write is refused with NOREPLICAS."""
    with redis.client() as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            yield
        finally:
            client.config_set("min-replicas-to-write", 0)


@contextlib.contextmanager
def demoted(redis: RedisServer) -> Iterator[None]:
    """A replica of nobody that is there: every write is refused with READONLY."""
    with redis.client() as client:
        client.replicaof("127.0.0.1", str(free_port()))
        try:
            yield
        finally:
            client.replicaof("no", "one")


@contextlib.contextmanager
def out_of_memory(redis: RedisServer) -> Iterator[None]:
    with redis.client() as client:
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


class Nonsense(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while self.request.recv(65536):
                self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n:7\r\n$3\r\nwhat\r\n")


class NonsenseServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextlib.contextmanager
def replaced_by_nonsense(redis: RedisServer) -> Iterator[None]:
    redis.kill()
    with NonsenseServer(("127.0.0.1", redis.port), Nonsense) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
    redis.start()


@pytest.mark.parametrize("trouble", [killed, paused, without_a_replica, demoted, out_of_memory, replaced_by_nonsense])
def test_no_call_notices_that_redis_is_away(site, load, trouble):
    with trouble(site.redis):
        wait_for(site.gateway.is_alone, "each worker guards alone")
        assert ready(site) == (200, "away")
        load.more(200)
        assert site.gateway.is_alone()
    wait_for(site.gateway.is_shared, "the state is shared again", 10)

    assert ready(site) == (200, "ok")
    wait_for(lambda: site.each_told_once(LOST) and site.each_told_once(BACK), "each worker has told it once")


def test_no_call_notices_that_redis_was_emptied(site, load):
    for _ in range(3):
        site.redis.flush()
        load.more(100)

    assert site.gateway.is_shared()
    assert (site.told(LOST), site.told(BACK)) == (Counter(), Counter())


# -- what was known is known -------------------------------------------------------------------------------------------


def open_checker(site: Site) -> None:
    site.mifos.set_faults(mode="error", users=["checker"])
    assert [call(site.gateway, user="checker").status for _ in range(5)] == [500] * 5
    site.mifos.set_faults(mode="ok")
    site.mifos.log.clear()


def rejects_checkers(site: Site) -> bool:
    return {call(site.gateway, user="checker").status for _ in range(10)} == {503}


def each_worker_rejects(site: Site) -> bool:
    """By the log: thirty calls in a row may all go to one worker, while the other has not heard yet."""
    rejects_checkers(site)
    pattern = r"\[(\d+)\] \[\S+\] gateway\.access: .*client=checker .*outcome=reject"
    return {int(pid) for pid in re.findall(pattern, site.gateway.log[site._read :])} == set(site.gateway.workers)


@pytest.fixture
def opened(site: Site) -> Iterator[Site]:
    open_checker(site)
    wait_for(lambda: each_worker_rejects(site), "each worker knows", 20)
    site.mifos.log.clear()
    yield site
    done = site.gateway.manage("breaker reset MIFOS-Checker-get --reason 'the next test'")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("trouble", [killed, paused])
def test_an_open_circuit_stays_open_through_the_loss(opened, trouble):
    with trouble(opened.redis):
        wait_for(opened.gateway.is_alone, "each worker guards alone")
        assert rejects_checkers(opened)
    wait_for(opened.gateway.is_shared, "the state is shared again", 10)

    assert rejects_checkers(opened)
    assert opened.mifos.requests() == []


def test_an_open_circuit_stays_open_when_redis_is_emptied(opened):
    opened.redis.flush()

    assert rejects_checkers(opened)
    time.sleep(1.5)  # a heartbeat, in which the loss is found
    assert rejects_checkers(opened)
    assert opened.gateway.status()["checker"]["get"]["state"] == "OPEN"
    assert opened.mifos.requests() == []


def test_each_worker_opens_alone_while_redis_is_away(site):
    site.mifos.set_faults(mode="error", users=["checker"])
    with killed(site.redis):
        wait_for(site.gateway.is_alone, "each worker guards alone")
        # Five failures in each of two workers; which takes which call, and how many in turn, the kernel decides.
        statuses: list[int] = []
        while statuses.count(500) < 10 and len(statuses) < 1_000:
            statuses.append(call(site.gateway, user="checker").status)
        assert statuses.count(500) == 10
        assert [call(site.gateway, user="checker").status for _ in range(50)] == [503] * 50
    wait_for(site.gateway.is_shared, "the state is shared again", 10)
    done = site.gateway.manage("breaker reset MIFOS-Checker-get --reason 'the next test'")
    assert done.returncode == 0, done.stderr


def test_what_was_counted_alone_is_sent_later(site):
    def fires() -> int:
        return site.gateway.status()["checker"]["post"]["stats"]["fires"]

    before = fires()
    with paused(site.redis):
        for _ in range(20):
            call(site.gateway, "clients/1?command=nothing", user="checker", method="POST")
        wait_for(site.gateway.is_alone, "each worker guards alone")
    wait_for(site.gateway.is_shared, "the state is shared again", 10)

    wait_for(lambda: fires() == before + 20, "all calls are counted")


def test_an_operators_act_without_redis_fails_and_says_so(site):
    with killed(site.redis):
        done = site.gateway.manage("breaker open MIFOS-Maker-get --reason test")
        shown = site.gateway.manage("breaker status")
    wait_for(site.gateway.is_shared, "the state is shared again", 10)

    assert (done.returncode, shown.returncode) == (2, 2)
    assert "not every act was applied" in done.stderr
    assert "the shared store could not be asked" in shown.stderr
    assert site.state() == "CLOSED"


# -- it is not there at the start --------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [killed, paused])
def test_it_starts_without_redis_and_follows_it_when_it_comes(start_gateway, own_redis, trouble):
    with trouble(own_redis):
        gateway = start_gateway(REDIS_URL=own_redis.url)
        answers: list[Got] = [call(gateway) for _ in range(20)]
        assert {got.status for got in answers} == {200}
        assert sorted(got.seconds for got in answers)[-3] < PROMISED + BUSY  # but each worker's first, with its imports
        assert max(got.seconds for got in answers) < 4
        assert gateway.is_alone()
        assert get(gateway, "/readyz").status == 200
        wait_for(lambda: gateway.log.count(LOST) == 2, "each worker has noticed")

    wait_for(gateway.is_shared, "the state is shared", 10)
    wait_for(lambda: (gateway.log.count(LOST), gateway.log.count(BACK)) == (2, 2), "each worker has told it once")
    gateway.counted(20)  # alone, too
