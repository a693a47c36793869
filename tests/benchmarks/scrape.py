"""How long a scrape takes: `python -m tests.benchmarks.scrape`.

A gateway of two workers, a Redis, an SQLite database. This process is one more of the cluster, and makes 1,000 breakers
(`--breakers`); between two scrapes it calls each of them five times, with latencies from 10 us to 2 s at random. Then
`GET /metrics` is timed, whole answer included, in each format: the median, the slowest, and the processor time of both
workers for one, the storing of what was told included. The first scrape, which reads from the database what was told of
each breaker before, stands apart.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import requests

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.gateway import CHECKOUT, Gateway, mifos_environ
from tests.programs import RedisServer

FORMATS = {"text": "text/plain", "OpenMetrics": "application/openmetrics-text"}
ROUNDS = 20


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--breakers", type=int, default=1_000)
    count = asked.parse_args().breakers
    with tempfile.TemporaryDirectory() as folder, Sandbox(port=0) as sandbox:
        redis = RedisServer(Path(folder))
        try:
            _measure(count, Path(folder), redis, mifos_environ(sandbox))
        finally:
            redis.kill()


def _measure(count: int, folder: Path, redis: RedisServer, environ: dict[str, str]) -> None:
    environ |= {"REDIS_URL": redis.url, "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}"}
    migrate = [sys.executable, "manage.py", "migrate", "-v0"]
    subprocess.run(migrate, env=os.environ | environ | {"DJANGO_DEBUG": "true"}, cwd=CHECKOUT, check=True)
    press = _crowd(count, redis.url)
    gateway = Gateway(folder, environ)
    try:
        workers = [psutil.Process(pid) for pid in gateway.workers]
        press()
        first, size = _scrape(gateway, "text/plain")
        print(f"{count:,} breakers: the first scrape {first * 1000:.0f} ms, {size / 2**20:.1f} MiB")
        for name, accept in FORMATS.items():
            took, cpu = [], []
            for _ in range(ROUNDS):
                press()
                before = _processor_time(workers)
                took.append(_scrape(gateway, accept)[0])
                time.sleep(0.5)  # what was told is stored meanwhile
                cpu.append(_processor_time(workers) - before)
            print(
                f"  {name:<12} median {statistics.median(took) * 1000:.0f} ms, slowest {max(took) * 1000:.0f} ms, "
                f"processor {statistics.median(cpu) * 1000:.0f} ms"
            )
    finally:
        gateway.stop()


def _crowd(count: int, url: str):  # type: ignore[no-untyped-def]
    """What makes five calls to each of so many breakers, and has them counted."""
    from redis import Redis

    from breaker.engine.circuit import SharedCircuitBreaker
    from breaker.engine.events import Labels
    from breaker.engine.stores.redis import RedisStore
    from breaker.engine.sync import Sync

    client = Redis.from_url(url, socket_timeout=5)
    sync = Sync(RedisStore(lambda: client, namespace="acceptance"), threads=False)
    labels = Labels(service="MIFOS", group="maker", key="get")
    circuits = [SharedCircuitBreaker(f"crowd-{number}", sync=sync, labels=labels) for number in range(count)]
    chance = random.Random(count)

    def press() -> None:
        for circuit in circuits:
            for _ in range(5):
                permit = circuit.admit()
                permit._started -= 10 ** chance.uniform(-5, 0.3)  # type: ignore[operator]
                permit.settle(None, None)
        sync.beat()

    press()
    return press


def _scrape(gateway: Gateway, accept: str) -> tuple[float, int]:
    began = time.perf_counter()
    answer = requests.get(f"{gateway.url}/metrics", headers={"Accept": accept}, timeout=30)
    assert answer.status_code == 200, answer.text
    return time.perf_counter() - began, len(answer.content)


def _processor_time(workers: list[psutil.Process]) -> float:
    return sum(sum(worker.cpu_times()[:2]) for worker in workers)


if __name__ == "__main__":
    main()
