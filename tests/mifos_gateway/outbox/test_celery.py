"""The task, in this process and by a real worker with its beat over Valkey: what it sends, and what its death costs."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mifos_gateway import tasks
from mifos_gateway.outbox import runner
from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.gateway import CHECKOUT, mifos_environ
from tests.mifos_gateway.outbox.processes import Place, sqlite
from tests.programs import RedisServer, wait_for

# -- in this process ---------------------------------------------------------------------------------------------------


class Told:
    """In a runner's place: what it was asked for."""

    def __init__(self, **_: Any) -> None:
        self.asked: list[dict[str, Any]] = []
        self.meanwhile: Callable[[], Any] = lambda: None

    def run(self, **asked: Any) -> int:
        self.asked.append(asked)
        self.meanwhile()
        return len(self.asked)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    tasks._runner.cache_clear()
    monkeypatch.setattr(runner, "Runner", Told)
    found: Any = tasks._runner()
    yield found
    tasks._runner.cache_clear()


def test_the_task_sends_what_is_due_for_a_bounded_time_by_one_runner(told: Told) -> None:
    assert [tasks.deliver_deferred(), tasks.deliver_deferred(seconds=3)] == [1, 2]
    assert told.asked == [{"once": True, "seconds": tasks.SECONDS}, {"once": True, "seconds": 3}]


def test_one_process_is_at_it_once(told: Told) -> None:
    inner: list[int] = []
    told.meanwhile = lambda: inner.append(tasks.deliver_deferred())
    assert (tasks.deliver_deferred(), inner) == (1, [0])


def test_who_fails_leaves_the_next_one_free(told: Told) -> None:
    told.meanwhile = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        tasks.deliver_deferred()
    told.meanwhile = lambda: None
    assert tasks.deliver_deferred() == 2


def test_the_beat_names_the_task_and_lets_no_messages_pile_up() -> None:
    (entry,) = tasks.BEAT_SCHEDULE.values()
    assert entry["task"] == tasks.deliver_deferred.name
    assert entry["options"] == {"expires": entry["schedule"]}


def test_nothing_else_needs_celery() -> None:
    """It is an extra: a deployment without it has commands, checks and a runner."""
    program = (
        "import sys; sys.modules['celery'] = None; import manage; sys.argv = ['manage.py', 'check']; manage.main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        env=os.environ | {"DJANGO_DEBUG": "true"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr


# -- a real worker -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(port=0) as mifos:
        yield mifos


@pytest.fixture
def place(tmp_path: Path, sandbox: Sandbox, valkey_server: RedisServer) -> Place:
    broker = valkey_server.url.removesuffix("/0") + "/5"
    return Place(
        sqlite(tmp_path),
        **mifos_environ(sandbox),
        REDIS_URL=valkey_server.url,
        CELERY_BROKER_URL=broker,
        BREAKER_RESET_TIMEOUT="1",
        GATEWAY_DEFERRED_RATE="1000",
    )


class Worker:
    """Celery's, with two children and the beat."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.log_path = folder / "celery.log"
        words = ["-A", "tests.mifos_gateway.outbox.celery_app", "worker", "--beat", "-s", str(folder / "beat")]
        words += ["-P", "prefork", "-c", "2", "--loglevel", "INFO", "--without-mingle", "--without-gossip"]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", *words],
                env=place.environ | {"PYTHONUNBUFFERED": "1"},
                cwd=CHECKOUT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def kill(self) -> None:
        """It and its children, as a machine that loses power does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def working(place: Place, folder: Path) -> Iterator[Worker]:
    worker = Worker(place, folder)
    try:
        yield worker
    except BaseException:
        print(worker.log)
        raise
    finally:
        if worker.process.poll() is None:
            worker.kill()


def statuses(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "db.sqlite3")) as database:
        return [
            status for (status,) in database.execute("SELECT status FROM mifos_gateway_deferredrequest ORDER BY id")
        ]


def leases_run_out(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "db.sqlite3")) as database:
        database.execute("UPDATE mifos_gateway_deferredrequest SET lease_until = '2026-01-01' WHERE lease IS NOT NULL")
        database.commit()


def noted(sandbox: Sandbox) -> list[str]:
    return [row["externalId"] for row in sandbox.ledger()]


@pytest.mark.timeout(240)
def test_a_worker_sends_all_in_order_and_its_death_loses_nothing(
    place: Place, sandbox: Sandbox, tmp_path: Path
) -> None:
    place.racer("accept", "12", "3")
    sandbox.set(processing_seconds=0.3)
    with working(place, tmp_path) as worker:
        wait_for(lambda: len(noted(sandbox)) >= 3, "the beat's task has begun to send", 60)
        worker.kill()
    done = len(noted(sandbox))
    assert done < 12
    leases_run_out(tmp_path)
    with working(place, tmp_path) as worker:
        wait_for(lambda: statuses(tmp_path) == ["delivered"] * 12, "the next worker has sent the rest", 60)
        assert "Traceback" not in worker.log
    assert sorted(noted(sandbox), key=int) == [str(number) for number in range(12)]
    for order in range(3):
        mine = [int(number) for number in noted(sandbox) if int(number) % 3 == order]
        assert mine == sorted(mine)


@pytest.mark.timeout(240)
def test_a_child_that_is_killed_is_replaced_and_its_request_is_sent_by_another(
    place: Place, sandbox: Sandbox, tmp_path: Path
) -> None:
    place.racer("accept", "1", "1")
    sandbox.set_faults(mode="hang", seconds=60, times=1)
    with working(place, tmp_path) as worker:
        wait_for(lambda: sandbox.requests(), "a child is in its call", 60)
        child = int(re.findall(r"task in (\d+)", worker.log)[-1])
        assert child != worker.process.pid
        os.kill(child, signal.SIGKILL)
        leases_run_out(tmp_path)
        wait_for(lambda: statuses(tmp_path) == ["delivered"], "another child has sent it", 60)
    assert noted(sandbox) == ["0"]


@pytest.mark.timeout(240)
def test_children_share_the_circuit_and_send_once_it_has_closed(place: Place, sandbox: Sandbox, tmp_path: Path) -> None:
    """The breakers of a forked child live: it sees the outage, waits for the trial, and its success closes."""
    place.environ |= {"BREAKER_VOLUME_THRESHOLD": "2"}
    place.racer("accept", "6", "6")
    sandbox.set_faults(mode="error", status=503)
    with working(place, tmp_path) as worker:
        wait_for(lambda: "Circuit breaker OPENED" in worker.log, "the circuit has opened", 60)
        asked = len(sandbox.requests())
        assert asked < 20
        sandbox.set_faults(mode="ok")
        wait_for(lambda: statuses(tmp_path) == ["delivered"] * 6, "all is sent", 90)
    assert sorted(noted(sandbox)) == [str(number) for number in range(6)]
