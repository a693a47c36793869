"""The processes of a run, and what the schedule does to them: two gateways, one Redis, the sandbox MIFOS."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import requests

from tests.acceptance.gateway import CHECKOUT, STOP_SECONDS, Gateway, clean_environ, mifos_environ
from tests.chaos.crowd import PARTS, Crowd
from tests.chaos.recorders import Canary, Queue, Stream, read_log
from tests.chaos.recording import Arrival, Count, Deed, Recording, Sample
from tests.chaos.undertaker import Undertaker
from tests.chaos.worker import other_threads
from tests.programs import RedisServer

NAMESPACE = "acceptance"
SPARED_GATEWAY = 1
"""Its older worker is never killed."""
SETTLED = 0.6
"""Seconds without calls after which all is counted and sent: two idle beats, and a little."""
THREADS = 64
BULKHEAD = 30
"""Calls in one worker at once: more than there are callers, so that whatever is rejected is rejected by a breaker."""
REQUESTS_AT_ONCE = 20_000
CLOCK_STEP = 0.02


class ClockStepped(Exception):
    """Redis, MIFOS and the logs have the wall's clock, callers the monotonic one: they can't be compared."""


class Mifos:
    """The sandbox as a process of its own, steered and asked over HTTP."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "mifos_sandbox", "--port", "0", "--die-with-parent", str(os.getpid())],
            env=clean_environ(DJANGO_DEBUG="true"),
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.base_url = self.process.stdout.readline().split()[-1]
        self.url = self.base_url.partition("/fineract-provider")[0]
        self.port = int(self.url.rpartition(":")[2])
        self._session = requests.Session()

    def set_faults(self, fault: dict[str, Any]) -> None:
        self._session.post(f"{self.url}/__faults", json=fault, timeout=10).raise_for_status()

    def take_requests(self) -> list[dict[str, Any]]:
        """What came since the last time; ask when nobody calls."""
        rows = self._session.get(f"{self.url}/__requests", params={"last": REQUESTS_AT_ONCE}, timeout=30).json()
        assert rows["count"] <= REQUESTS_AT_ONCE
        self._session.delete(f"{self.url}/__requests", timeout=10).raise_for_status()
        found: list[dict[str, Any]] = rows["requests"]
        return found

    def stop(self) -> None:
        self._session.close()
        self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Stage:
    """`with Stage(folder, recording) as stage:` everything runs; its methods are the verbs of the schedule."""

    def __init__(self, folder: Path, recording: Recording) -> None:
        self.folder, self.recording = folder, recording
        self._ending = contextlib.ExitStack()
        self._under_way: tuple[str, float] | None = None
        self._hunters: list[threading.Thread] = []
        self._over = threading.Event()
        self._killing = threading.Lock()
        self._pids: set[int] = set()
        self._killed: set[int] = set()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ending:
            self._start(ending)
            self._ending = ending.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self.recording.calls:
                self._collect()
        finally:
            self._ending.close()

    def _start(self, ending: contextlib.ExitStack) -> None:
        self.undertaker = Undertaker()
        ending.callback(self.undertaker.close)
        self.redis = RedisServer(self.folder)
        ending.callback(lambda: self.redis.kill())
        self._watch(self.redis.process.pid)
        self.mifos = Mifos()
        ending.callback(self.mifos.stop)
        environ = self._environ()
        manage = [sys.executable, "manage.py"]
        subprocess.run(
            [*manage, "migrate", "-v0", "--skip-checks"], env=clean_environ(**environ), cwd=CHECKOUT, check=True
        )
        self.gateways: list[Gateway] = []
        ending.callback(self._stop_gateways)
        with ThreadPoolExecutor(2) as starting:
            for started in [starting.submit(self._start_gateway, environ) for _ in range(2)]:
                started.result()
        self.gateways[1]._token = self.gateways[0].token
        self._began, self._began_wall = time.monotonic(), time.time()
        self._tend(ending)

    def _start_gateway(self, environ: dict[str, str]) -> None:
        gateway = Gateway(self.folder, environ)
        self._watch(gateway.process.pid)
        self.gateways.append(gateway)

    def _watch(self, pid: int) -> None:
        self.undertaker.watch(pid)
        self._pids.add(pid)

    def _environ(self) -> dict[str, str]:
        return {
            **mifos_environ(self.mifos),  # type: ignore[arg-type]
            "DJANGO_DEBUG": "true",
            "DJANGO_SECRET_KEY": "for-chaos-only-" + "x" * 40,
            "DATABASE_URL": f"sqlite:///{self.folder / 'db.sqlite3'}",
            "REDIS_URL": self.redis.url,
            "BREAKER_NAMESPACE": NAMESPACE,
            "BREAKER_OPTIONS": json.dumps({part.breaker: part.options for part in PARTS}),
            "WEB_CONCURRENCY": "2",
            "WEB_THREADS": str(THREADS),
            "GUNICORN_CMD_ARGS": "--worker-class tests.chaos.worker.Worker",
            "GATEWAY_BULKHEAD": str(BULKHEAD),
            "LOG_FORMAT": "json",
            "MIFOS_GATEWAY_DIES_WITH_PARENT": "1",
        }

    def _tend(self, ending: contextlib.ExitStack) -> None:
        self.canary = Canary(self.clock)
        ending.callback(self.canary.stop)
        self.queue = Queue([gateway.process.pid for gateway in self.gateways], self.clock)
        ending.callback(self.queue.stop)
        self.stream = Stream(self.redis, f"breaker:1:{{{NAMESPACE}}}:events", self.since_start)
        ending.callback(self.stream.stop)
        ending.callback(lambda: self.redis.resume())  # a paused one would keep the reader waiting
        self.crowd = Crowd(self.gateways, self.clock)
        ending.callback(self.crowd.stop)
        ending.callback(self._over.set)

    def clock(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def since_start(self, wall: float) -> float:
        return wall - self._began_wall

    def _stop_gateways(self) -> None:
        with ThreadPoolExecutor(2) as stopping:
            list(stopping.map(Gateway.stop, self.gateways))

    def finish(self) -> None:
        """Take in what the others have written down. Raises ClockStepped."""
        self._over.set()
        for hunter in self._hunters:
            hunter.join()
        self.mend()
        self.crowd.stop()
        self._take_requests()
        self.stream.stop()
        time.sleep(SETTLED)  # lines of the log are on their way
        self._collect()
        if abs(step := self.since_start(time.time()) - self.clock()) > CLOCK_STEP:
            raise ClockStepped(f"the wall's clock went {step:+.3f} s beside the monotonic one")

    def _collect(self) -> None:
        self.recording.calls = self.crowd.calls
        self.recording.events = self.stream.events()
        self.recording.stalls = [*self.canary.stalls, *self.queue.stalls]
        for number, gateway in enumerate(self.gateways):
            read_log(self.recording, gateway.log, number, self.since_start)

    def end(self) -> None:
        """End all processes, and write down which are there all the same."""
        self._ending.close()
        self._pids |= {self.mifos.process.pid, *self._killed, *(born.pid for born in self.recording.born)}
        deadline = time.monotonic() + STOP_SECONDS
        while (left := [pid for pid in self._pids if psutil.pid_exists(pid)]) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.recording.left = [str(pid) for pid in left]

    # -- MIFOS -----------------------------------------------------------------------------------------------------

    def spoil_mifos(self, fault: dict[str, Any]) -> None:
        self.mifos.set_faults(fault)

    def mend_mifos(self) -> None:
        self.mifos.set_faults({"mode": "ok"})

    # -- Redis -----------------------------------------------------------------------------------------------------

    def kill_redis(self) -> None:
        self._under_way = ("kill", self.clock())
        self.redis.kill()

    def start_redis(self) -> None:
        self.redis.start()
        self._watch(self.redis.process.pid)
        self._done()

    def pause_redis(self) -> None:
        self._under_way = ("pause", self.clock())
        self.redis.pause()

    def resume_redis(self) -> None:
        self.redis.resume()
        self._done()

    def _done(self) -> None:
        assert self._under_way is not None
        what, began = self._under_way
        self._under_way = None
        self.recording.deeds.append(Deed(what=what, began=began, ended=self.clock()))

    def flush_redis(self) -> None:
        began = self.clock()
        self.stream.flush()
        self.recording.deeds.append(Deed(what="flush", began=began, ended=self.clock()))

    # -- workers ---------------------------------------------------------------------------------------------------

    def _by_age(self, gateway: int) -> list[int]:
        found = []
        for child in psutil.Process(self.gateways[gateway].process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append((child.create_time(), child.pid))
        return [pid for _, pid in sorted(found)]

    def _spared(self) -> int:
        return self._by_age(SPARED_GATEWAY)[0]

    def kill_worker(self, gateway: int, age: int) -> None:
        workers = self._by_age(gateway)
        self._kill(workers[min(age, len(workers) - 1)], gateway)

    def _kill(self, pid: int, gateway: int) -> None:
        with self._killing:
            if pid == self._spared() or pid not in self._by_age(gateway) or pid in self._killed:
                return
            at = self.clock()
            os.kill(pid, signal.SIGKILL)
            self._killed.add(pid)
            self.recording.deeds.append(Deed(what="kill", began=at, ended=at, pid=pid, gateway=gateway))

    def hunt_the_trial(self, seconds: float) -> None:
        """Kill the next worker that has a trial under way, should there be one within so many seconds."""
        hunter = threading.Thread(target=self._hunt, args=(self.clock() + seconds,), name="hunter")
        self._hunters.append(hunter)
        hunter.start()

    def _hunt(self, until: float) -> None:
        client = self.redis.client(retry=None)
        with client:
            while self.clock() < until and not self._over.wait(0.02):
                for holder in self._holders(client):
                    for number in range(len(self.gateways)):
                        if holder in self._by_age(number) and holder != self._spared():
                            self._kill(holder, number)
                            return

    def _holders(self, client: Any) -> Iterator[int]:
        names = [f"breaker:1:{{{NAMESPACE}}}:leases:{part.breaker}" for part in PARTS]
        try:
            leases = [token for name in names for token in client.hkeys(name)]
        except Exception:  # it is away just now
            return
        for token in leases:
            yield int(token.partition(b"-")[0])

    # -- the quiet moments -----------------------------------------------------------------------------------------

    def mend(self) -> None:
        """All is well from here on, whatever the schedule has forgotten."""
        self.mend_mifos()
        if self._under_way is not None:
            {"kill": self.start_redis, "pause": self.resume_redis}[self._under_way[0]]()

    def press(self) -> None:
        self.crowd.press()

    def hush(self) -> None:
        """Nobody calls; once all is counted and sent, write down the totals and the workers' belongings."""
        if not self.crowd.hush():
            return
        time.sleep(SETTLED)
        self._take_requests()
        self._sample()
        self._count()

    def _take_requests(self) -> None:
        for row in self.mifos.take_requests():
            at = self.since_start(_moment(row["at"]))
            self.recording.arrivals.append(Arrival(id=row["requestId"] or "", at=at, fault=row["fault"] or ""))

    def _sample(self) -> None:
        for gateway in self.gateways:
            for pid in gateway.workers:
                with contextlib.suppress(psutil.Error):
                    self.recording.samples.append(self._sampled(psutil.Process(pid)))

    def _sampled(self, worker: psutil.Process) -> Sample:
        with worker.oneshot():
            idle = sum(bool(one.raddr) and one.raddr.port == self.mifos.port for one in worker.net_connections())
            return Sample(
                pid=worker.pid,
                at=self.clock(),
                threads=other_threads(worker.pid),
                sockets=worker.num_fds() - idle,
                idle=idle,
                rss=worker.memory_info().rss,
            )

    def _count(self) -> None:
        status = self.gateways[0].status()
        if not status["shared"]:
            return
        for part in PARTS:
            key = "request" if part.method == "HEAD" else part.method.lower()
            stats = status[part.user][key]["stats"]
            kinds = {kind: stats[kind] for kind in ("successes", "failures", "timeouts", "rejects")}
            self.recording.counts.append(Count(at=self.clock(), breaker=part.breaker, **kinds))


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
