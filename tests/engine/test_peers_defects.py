"""Where other circuit breakers break, ours does not: with real processes and a real Redis.

Each row is a defect found in the sources of a published library, and the tests that show what ours does instead.
Tests without a folder stand here; `make conformance` shows the same of traces that any breaker can run.

    interlock-cb: a refused request for a trial prolongs it, so a killed trial blocks while traffic flows
        test_a_killed_trial_blocks_for_two_seconds_however_many_callers_are_refused
    nopanic-redis: a trial's place has no lease, so a killed trial blocks for ever; callers may retry at once
        test_a_killed_trial_blocks_for_two_seconds_however_many_callers_are_refused
    stoplight: a late failure opens a recovering circuit again and restarts the wait
        test_a_late_outcome_changes_nothing[failure]
        test_a_trial_that_slept_through_its_lease_decides_nothing
    stoplight: scripts that Redis has forgotten are not loaded again, so all workers pass all calls
        test_forgotten_scripts_are_loaded_again_without_a_loss
        test_a_redis_that_restarts_lets_nobody_through_an_open_circuit
    aiobreaker-redis: a late success closes
        test_a_late_outcome_changes_nothing[success]
    gobreaker, distributed: reads before it locks, so updates are lost
        test_eight_processes_hammering_lose_no_count
        tests/engine/test_processes.py::test_one_of_eight_processes_tells_the_opening
    gobreaker, distributed: holds the lock of all for as long as a guarded call runs
        test_calls_of_many_threads_and_processes_run_side_by_side
    pybreaker: holds a lock for as long as a guarded call runs
        test_calls_of_many_threads_and_processes_run_side_by_side
    pybreaker: half-open admits every worker
        test_one_trial_for_six_processes_of_ten_threads
        tests/acceptance/test_cluster.py::test_sixty_callers_of_four_workers_make_one_trial
    opossum, Polly, resilience4j: a success that began before the trip closes the half-open circuit
        test_a_late_outcome_changes_nothing[success]
    ganesha: nobody claims the trial, so after the wait all pass
        test_one_trial_for_six_processes_of_ten_threads
    baldur-framework: counts by reading, adding and writing
        test_eight_processes_hammering_lose_no_count
    baldur-framework: a stuck trial is reclaimed after a minute only
        test_a_killed_trial_blocks_for_two_seconds_however_many_callers_are_refused

And what the rule behind them is good for, that each permit has an owner, a generation and an end on Redis's clock:

    a command that was given up at a stopped Redis runs when that goes on
        test_commands_that_a_stopped_redis_runs_late_change_nothing
        test_an_act_that_a_stopped_redis_runs_late_changes_nothing
    a host that was cut off comes back with decisions of its own
        test_a_host_cut_off_for_twenty_minutes_poisons_nobody_and_undoes_no_act
    one bad host of many opens for all
        test_of_ten_processes_one_that_always_fails_opens_nothing
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from breaker.engine import desk, judge, sync
from breaker.engine.circuit import CallRejected
from breaker.engine.machine import Act, Action, State, apply, newborn
from breaker.engine.machine import Transition as Due
from breaker.engine.stores.base import Bucket, LeaseRequest, Push, StoreError, Window, Write
from breaker.engine.stores.redis import RedisStore
from breaker.engine.window import total
from breaker.testing import Failure, fail, rejected, succeed
from tests.engine.hosts import Host, Site
from tests.engine.processes import FOREVER, Worker, counted, on_trial, store_of, traffic, until
from tests.named import is_there
from tests.programs import RedisServer, wait_for
from tests.relay import Relay
from tests.told_time import ToldRedis

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("patience")]
CHECKOUT = Path(__file__).parents[2]
context = multiprocessing.get_context("fork")


def test_each_test_named_above_is_there() -> None:
    named = re.findall(r"^        (?:(\S+)::)?(test_\w+)(?:\[(\w+)\])?", __doc__ or "", re.MULTILINE)
    assert len(named) >= 15
    here = Path(__file__)
    assert [one for one in named if not is_there(CHECKOUT / one[0] if one[0] else here, *one[1:])] == []


# -- trials whose owner vanishes ---------------------------------------------------------------------------------------


def press_until_closed(server: RedisServer, options: dict[str, Any]) -> Callable[[], list[float]]:
    """A process that calls all the time until its circuit is closed. Answers: rejections, the smallest retry_after of
    them, and when its first call was let through (monotonic seconds, the same for all processes; 0: none)."""

    def work() -> list[float]:
        mine = Worker(server, **options)
        rejects, soonest, through = 0, 1_000, 0.0
        while mine.state != "closed":
            try:
                mine.breaker.call(time.sleep, 0)
                through = through or time.monotonic()
            except CallRejected as error:
                rejects, soonest = rejects + 1, min(soonest, error.retry_after)
            time.sleep(0.002)
        return [rejects, soonest, through]

    return work


def test_a_killed_trial_blocks_for_two_seconds_however_many_callers_are_refused(redis_server, worker, fork) -> None:
    options = {"reset_timeout": 1, "timeout": 20}
    mine = worker(**options)
    fail(mine.breaker, 5)
    child = on_trial(redis_server, fork, lambda: time.sleep(FOREVER), **options)
    pressing = [fork(press_until_closed(redis_server, options)) for _ in range(3)]
    until(lambda: mine.state == "half-open", 10)
    time.sleep(2.5)  # longer than a lease: it is renewed while its owner lives
    assert rejected(mine.breaker)

    child.signal(signal.SIGKILL)
    killed_at = time.monotonic()
    until(lambda: mine.state == "closed", 10)

    pressed = [each.result() for each in pressing]
    # Its lease ends two seconds after it was renewed last; its timeout would end after twenty.
    assert 0.5 < min(through for _, _, through in pressed if through) - killed_at < 8
    assert min(rejects for rejects, _, _ in pressed) > 100
    assert min(soonest for _, soonest, _ in pressed) >= 1


def test_a_trial_that_slept_through_its_lease_decides_nothing(redis_server, worker, fork) -> None:
    options = {"reset_timeout": 1, "timeout": 20}
    release = multiprocessing.get_context("fork").Event()
    mine = worker(**options)
    fail(mine.breaker, 5)

    def outcome() -> None:
        release.wait(FOREVER)
        raise Failure

    child = on_trial(redis_server, fork, outcome, **options)
    child.signal(signal.SIGSTOP)
    until(lambda: not rejected(mine.breaker), 10)
    assert mine.state == "closed"

    child.signal(signal.SIGCONT)  # before the release: it may have been stopped holding that one's lock
    release.set()

    assert child.result() == "closed"
    assert mine.state == "closed"


# -- outcomes that come late -------------------------------------------------------------------------------------------


class Stragglers:
    """A process with calls that began while the circuit was closed; each ends when it is told."""

    def __init__(
        self, server: RedisServer, fork: Any, error: type[Exception] | None, calls: int, **options: Any
    ) -> None:
        self._ends = [context.Event() for _ in range(calls)]
        self._ended = [context.Event() for _ in range(calls)]
        begun = context.Semaphore(0)

        def work() -> None:
            mine = Worker(server, **options)

            def guarded(number: int) -> None:
                begun.release()
                self._ends[number].wait(FOREVER)
                if error is not None:
                    raise error

            def straggle(number: int) -> None:
                with contextlib.suppress(Failure):
                    mine.breaker.call(guarded, number)
                self._ended[number].set()

            threads = [threading.Thread(target=straggle, args=(number,)) for number in range(calls)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            mine.sync.close()

        fork(work)
        for _ in range(calls):
            assert begun.acquire(timeout=FOREVER)

    def end(self, number: int) -> None:
        self._ends[number].set()
        assert self._ended[number].wait(FOREVER)


@pytest.mark.parametrize("error", [pytest.param(None, id="success"), pytest.param(Failure, id="failure")])
def test_a_late_outcome_changes_nothing(redis_server, worker, fork, error: type[Exception] | None) -> None:
    """Open, half-open, during a trial, and closed again: neither state, nor wait, nor what decides."""
    options = {"reset_timeout": 3, "timeout": 20}
    mine = worker(**options)
    late = Stragglers(redis_server, fork, error, 4, **options)
    ended = iter(range(1, 5))

    def stands_when_one_more_ends(state: str) -> None:
        before, number = snapshot_of(redis_server), next(ended)
        late.end(number - 1)
        until(lambda: counted_late(redis_server, error) == number + (4 if number == 4 and error else 0))
        assert mine.state == state
        assert snapshot_of(redis_server) == before

    fail(mine.breaker, 5)
    stands_when_one_more_ends("open")
    until(lambda: mine.state == "half-open", 10)
    stands_when_one_more_ends("half-open")
    trial = mine.breaker.admit()
    stands_when_one_more_ends("half-open")
    trial.settle(None, None)
    assert mine.state == "closed"
    fail(mine.breaker, 4)
    stands_when_one_more_ends("closed")
    fail(mine.breaker)
    assert mine.state == "open"


def snapshot_of(server: RedisServer) -> Any:
    return store_of(server).load(["x"]).records["x"].snapshot


def counted_late(server: RedisServer, error: type[Exception] | None) -> int:
    """Late outcomes that Redis has: all but the five failures that opened, and the trial's success."""
    totals = counted(server)
    return totals.failures - 5 if error else totals.successes - (snapshot_of(server).state is State.CLOSED)


# -- updates, locks, doors ---------------------------------------------------------------------------------------------


def test_eight_processes_hammering_lose_no_count(redis_server, fork) -> None:
    never = {"error_threshold_percentage": 100}

    def work() -> None:
        worker = Worker(redis_server, **never)

        def hammer() -> None:
            for _ in range(100):
                succeed(worker.breaker, 3)
                fail(worker.breaker, 1)

        threads = [threading.Thread(target=hammer) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: worker.sync.sharing, "still shared")
        worker.sync.close()

    for child in [fork(work) for _ in range(8)]:
        child.result()

    totals = counted(redis_server)
    assert (totals.successes, totals.failures) == (8 * 4 * 300, 8 * 4 * 100)


def test_one_trial_for_six_processes_of_ten_threads(redis_server, worker, fork) -> None:
    options = {"reset_timeout": 1, "timeout": 20}
    parent = worker(**options)
    context = multiprocessing.get_context("fork")
    start, release, admitted = context.Barrier(6 * 10), context.Event(), context.Value("i", 0)

    def trial() -> None:
        with admitted.get_lock():
            admitted.value += 1
        release.wait(FOREVER)

    def work() -> int:
        mine = Worker(redis_server, **options)
        until(lambda: mine.state == "half-open", 10)
        rejects: list[int] = []

        def press() -> None:
            start.wait(FOREVER)
            with contextlib.suppress(CallRejected):
                mine.breaker.call(trial)
                return
            rejects.append(1)

        threads = [threading.Thread(target=press) for _ in range(10)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(rejects) >= 9, "all but the trial are rejected", FOREVER)
        release.wait(FOREVER)
        for thread in threads:
            thread.join()
        until(lambda: mine.state == "closed", 10)
        return len(rejects)

    fail(parent.breaker, 5)
    children = [fork(work) for _ in range(6)]
    wait_for(lambda: admitted.value == 1, "the trial runs", FOREVER)
    until(lambda: counted(redis_server).rejects == 59, 10)
    assert admitted.value == 1
    release.set()
    assert sum(child.result() for child in children) == 59


def test_calls_of_many_threads_and_processes_run_side_by_side(redis_server, fork) -> None:
    """None of them ends before all have begun."""
    all_have_begun = context.Barrier(2 * 8)

    def work() -> int:
        mine = Worker(redis_server)
        ended: list[int] = []

        def call() -> None:
            ended.append(mine.breaker.call(all_have_begun.wait, FOREVER / 2))

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(ended)

    assert [child.result() for child in [fork(work) for _ in range(2)]] == [8, 8]


# -- Redis restarts, forgets, stops ------------------------------------------------------------------------------------


def test_forgotten_scripts_are_loaded_again_without_a_loss(redis_server, worker) -> None:
    mine = worker()
    with traffic(mine.breaker) as made, redis_server.client() as client:
        for _ in range(10):
            client.script_flush()
            fail(mine.breaker)
            time.sleep(0.05)
    mine.sync.close()

    totals = counted(redis_server)
    assert (totals.successes, totals.failures) == (sum(made), 10)
    assert mine.losses == []


def restart(server: RedisServer, mine: Worker) -> None:
    """Without its data and its scripts; back when the process has noticed both."""
    losses = len(mine.losses)
    server.restart()
    until(lambda: len(mine.losses) > losses and mine.sync.sharing, 10)


def test_a_redis_that_restarts_lets_nobody_through_an_open_circuit(own_redis, fork) -> None:
    options = {"reset_timeout": 4, "timeout": 20}
    mine = Worker(own_redis, **options)
    restart(own_redis, mine)
    fail(mine.breaker, 5)
    opened_at = time.monotonic()
    pressing = [fork(press_until_closed(own_redis, options)) for _ in range(2)]
    until(lambda: counted(own_redis).rejects > 50, 10)

    restart(own_redis, mine)

    pressed = [child.result() for child in pressing]
    assert min(through for _, _, through in pressed if through) - opened_at > 3.9
    assert min(rejects for rejects, _, _ in pressed) > 100
    until(lambda: mine.state == "closed", 10)
    mine.sync.close()


@contextlib.contextmanager
def stopped(server: RedisServer) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


def scripts_run(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])


@pytest.fixture
def impatient(own_redis, monkeypatch) -> Callable[[], RedisStore]:
    """Makes stores whose clients give up after 0.1 s, as in service. Each has its own connection, open already: what is
    sent on that one arrives, however late."""
    monkeypatch.setattr(sync, "PATIENCE", 0.1)

    def make() -> RedisStore:
        store = store_of(own_redis)
        store.load([])
        return store

    return make


def test_commands_that_a_stopped_redis_runs_late_change_nothing(own_redis, impatient) -> None:
    """A transition, a lease and counts, each given up and then run: the first two too late, the last but once."""
    store, writer, leaser, pusher = impatient(), impatient(), impatient(), impatient()
    closed, now = newborn(0), store.load([]).now
    store.write(Write(name="x", expected=None, after=closed, deadline=now + 10_000))
    store.lease(LeaseRequest(name="x", generation="?", token="t", slots=1, longest_ms=1, deadline=0))
    tripped = apply(closed, Due(id="late", before=State.CLOSED, after=State.OPEN, reset_ms=60_000), now)
    five_failures = {Bucket("x", 60_000, now // 60_000): {"g|f": 5}}
    push = Push(process="p", sequence=1, counts=five_failures, keep_ms=60_000, now=now)
    store.push(dataclasses.replace(push, process="q"))  # and so all scripts are there
    before = scripts_run(own_redis)

    deadline = store.load([]).now + 100
    write = Write(name="x", expected=closed.rev, after=tripped, deadline=deadline)
    lease = LeaseRequest(name="x", generation=closed.id, token="t", slots=1, longest_ms=30_000, deadline=deadline)
    with stopped(own_redis):
        for ask, question in ((writer.write, write), (leaser.lease, lease), (pusher.push, push)):
            with pytest.raises(StoreError):
                ask(question)
    until(lambda: scripts_run(own_redis) == before + 1 + 3, 10)

    again = store.push(dataclasses.replace(push, wants={"x": Window(60_000, 2)}))
    assert total(again.windows["x"]).failures == 10
    assert snapshot_of(own_redis).rev == closed.rev
    assert store.lease(dataclasses.replace(lease, token="another", deadline=deadline + 10_000)).granted


def test_an_act_that_a_stopped_redis_runs_late_changes_nothing(own_redis, impatient, monkeypatch) -> None:
    """Its author was told that it failed."""
    mine = Worker(own_redis)
    shared = mine.sync.shared
    assert shared is not None
    write = shared.write

    def write_when_stopped(asked: Write) -> Any:
        own_redis.pause()
        return write(asked)

    monkeypatch.setattr(shared, "write", write_when_stopped)
    before = scripts_run(own_redis)
    try:
        with pytest.raises(StoreError):
            desk.act(mine.sync, "x", Act(id="a", action=Action.OPEN), {"kind": "operation"})
    finally:
        own_redis.resume()

    until(lambda: scripts_run(own_redis) > before + 2, 10)
    until(lambda: mine.sync.sharing, 10)
    assert snapshot_of(own_redis).force is None
    assert not rejected(mine.breaker)
    mine.sync.close()


# -- one host against the others ---------------------------------------------------------------------------------------


def test_a_host_cut_off_for_twenty_minutes_poisons_nobody_and_undoes_no_act(redis_server, fork) -> None:
    """Two processes over real sockets, one of them through a relay that is cut; their time and Redis's is told."""
    with ToldRedis(port=redis_server.port) as told:
        relay, site = Relay(redis_server.port), Site(told)
        near, far = (Host(fork, site.clock, port, reset_timeout=20) for port in (redis_server.port, relay.port))
        site.hosts = [near, far]
        site.advance(2)
        healthy = near.generation("x")
        assert far.generation("x") == healthy

        relay.cut()
        site.advance(2)
        far.fail("x", 5)
        far.fail("y", 5)
        for minute in range(20):
            if minute == 10:
                near.act("y", "open")
            site.advance(60.25)
            far.fail("x")  # its trial
            far.succeed("y", 5)
            near.succeed("x", 10)
        assert (near.shares(), far.shares()) == (True, False)
        assert far.generation("x")[0] > 40
        assert (far.state("x"), far.state("y"), near.state("y")) == ("open", "closed", "open")

        relay.mend()
        site.advance(2)
        assert far.shares()
        assert [host.generation("x") for host in (near, far)] == [healthy] * 2
        assert [(host.rejects("x"), host.rejects("y")) for host in (near, far)] == [(False, True)] * 2
        near.fail("x")  # the failures that were seen alone are counted now, and outweighed
        assert near.state("x") == "closed"
        relay.cut()


def test_of_ten_processes_one_that_always_fails_opens_nothing(redis_server, fork, monkeypatch) -> None:
    """Three times the window has just restarted; nine have successes that they have not sent when the tenth fails.

    Not with the constants of service: beats are rarer, so that nothing but the look brings the successes; and the look
    waits for longer than 20 ms (and a call than 100 ms), for ten processes on few cores do not answer so soon. Answers
    that come later than LOOK are not part of the verdict."""
    monkeypatch.setattr(sync, "BEAT", 1.0)
    monkeypatch.setattr(sync, "IDLE_BEAT", 1.0)
    monkeypatch.setattr(judge, "LOOK", 0.9)
    in_step = context.Barrier(11)

    def healthy() -> int:
        mine = Worker(redis_server)
        for number in range(3):
            in_step.wait(FOREVER)
            until(lambda number=number: mine.breaker.snapshot.generation == 2 + number)
            succeed(mine.breaker, 3)
            in_step.wait(FOREVER)
            in_step.wait(FOREVER)
        return mine.kinds()["Transitioned"]

    def bad() -> int:
        mine = Worker(redis_server)
        for number in range(3):
            in_step.wait(FOREVER)
            until(lambda number=number: mine.breaker.snapshot.generation == 2 + number)
            in_step.wait(FOREVER)
            fail(mine.breaker, 5)
            in_step.wait(FOREVER)
        return mine.kinds()["Transitioned"]

    children = [fork(healthy) for _ in range(9)] + [fork(bad)]
    mine = Worker(redis_server)
    for number in range(3):
        desk.act(mine.sync, "x", Act(id=f"reset-{number}", action=Action.RESET), {"kind": "operation"})
        for _ in range(3):
            in_step.wait(FOREVER)

    assert [child.result() for child in children] == [0] * 10
    assert snapshot_of(redis_server).state is State.CLOSED
    totals = counted(redis_server)
    assert (totals.successes, totals.failures) == (3 * 9 * 3, 3 * 5)
    mine.sync.close()
