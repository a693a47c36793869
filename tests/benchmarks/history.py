"""How large history grows, and how quickly a chart is read from it: `python -m tests.benchmarks.history`.

Fills a database with what the recorder would have written: minutes of the last 30 days, hours of the last 400, every
breaker called in every minute (the most that there can be: a minute without a call costs no row), and ten events a day.
Then reads one breaker's charts over each span, warm, the median and the slowest of 20. On SQLite and on PostgreSQL:
12 breakers, and 1,000 breakers with `--breakers 1000` (43 million minutes: some 10 GiB and minutes for each database).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from tests.programs import PostgresServer

SPANS = {"15 min": 0.25, "1 h": 1, "24 h": 24, "7 d": 168, "30 d": 720}
MINUTES, HOURS = 30 * 24 * 60, 400 * 24
ROUNDS = 20
_NUMBERS = {
    "sqlite": "(WITH RECURSIVE some(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM some WHERE n < {last}) "
    "SELECT n FROM some)",
    "postgresql": "generate_series({first}, {last}) n",
}
_MOMENT = {
    "sqlite": "datetime(%s, '-' || ({steps} - n) || ' {kind}s')",
    "postgresql": "%s - ({steps} - n) * interval '1 {kind}'",
}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--breakers", type=int, default=12)
    asked.add_argument("--fill", help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.fill:
        _measure(given.fill, given.breakers)
        return
    with tempfile.TemporaryDirectory() as folder, _databases(Path(folder)) as databases:
        for database, url in databases.items():
            environ = os.environ | {
                "DATABASE_URL": url,
                "DJANGO_DEBUG": "true",
                "DJANGO_SETTINGS_MODULE": "config.settings",
            }
            words = ["--fill", database, "--breakers", str(given.breakers)]
            subprocess.run([sys.executable, "-m", "tests.benchmarks.history", *words], env=environ, check=True)


@contextmanager
def _databases(folder: Path) -> Iterator[dict[str, str]]:
    postgres = PostgresServer(folder)
    try:
        yield {"SQLite": f"sqlite:///{folder / 'history.sqlite3'}", "PostgreSQL": postgres.url}
    finally:
        postgres.stop()


def _measure(database: str, breakers: int) -> None:
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from breaker import conf, timeline
    from breaker.history import pack

    call_command("migrate", verbosity=0)
    names = [f"breaker-{number}" for number in range(breakers)]
    typical = pack({slot: 1 + slot % 7 for slot in range(400, 440, 2)})
    now = timeline.now().replace(second=0, microsecond=0)
    began = time.monotonic()
    _fill(connection, conf.namespace(), names, now, typical)
    filled = time.monotonic() - began
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM breaker_minutesample")
        (rows,) = cursor.fetchone()
    size = _size(connection)
    print(f"{database}: {breakers} breakers, {rows:,} minutes, {size / 2**20:,.0f} MiB, filled in {filled:.0f} s")
    middle = names[len(names) // 2]
    reads: dict[str, Callable[[], object]] = {
        f"chart of {label}": lambda hours=hours: timeline.history(middle, now - timedelta(hours=hours), now)  # type: ignore[misc]
        for label, hours in SPANS.items()
    }
    reads["summary of 30 d"] = lambda: timeline.summary(middle, now - timedelta(days=30), now)
    reads["newest 100 events"] = lambda: list(timeline.events(middle)[:100])
    for what, read in reads.items():
        read()
        seconds = sorted(_timed(read) for _ in range(ROUNDS))
        print(f"  {what:20} {statistics.median(seconds) * 1000:6.1f} ms, at worst {seconds[-1] * 1000:6.1f} ms")


def _timed(read: Callable[[], object]) -> float:
    began = time.perf_counter()
    read()
    return time.perf_counter() - began


def _fill(connection, namespace, names, now, histogram) -> None:  # type: ignore[no-untyped-def]
    from breaker.models import BreakerEvent, Series

    Series.objects.bulk_create([Series(namespace=namespace, breaker=name, store="s") for name in names])
    end = now.replace(tzinfo=None).isoformat(" ") if connection.vendor == "sqlite" else now
    for table, kind, steps, given in (
        ("breaker_minutesample", "minute", MINUTES, [histogram, True]),
        ("breaker_hoursample", "hour", HOURS, [histogram]),
    ):
        columns = "series_id, at, successes, failures, timeouts, rejects, fallbacks, latency_us, histogram"
        values = "40 + n %% 50, n %% 5, n %% 3, 0, 0, 4000000 + n, %s"
        if kind == "minute":
            columns, values = f"{columns}, rolled", f"{values}, %s"
        at = _MOMENT[connection.vendor].format(steps=steps, kind=kind)
        with connection.cursor() as cursor:
            # By time, as it was written: the rows of one breaker lie far apart.
            for first in range(0, steps, 1440):
                numbers = _NUMBERS[connection.vendor].format(first=first, last=min(first + 1440, steps) - 1)
                rows = f"SELECT id, {at}, {values} FROM {numbers}, breaker_series ORDER BY n"
                cursor.execute(f"INSERT INTO {table} ({columns}) {rows}", [end, *given])
    moves = (("CLOSED", "OPEN"), ("OPEN", "HALF_OPEN"), ("HALF_OPEN", "CLOSED"))
    for some in range(0, len(names), 20):
        BreakerEvent.objects.bulk_create(
            [
                BreakerEvent(
                    namespace=namespace,
                    rev=f"{name}-{number}",
                    breaker=name,
                    kind="transition",
                    from_state=moves[number % 3][0],
                    to_state=moves[number % 3][1],
                    at=now - timedelta(hours=2.4 * (4_000 - number)),
                    source="breaker",
                )
                for name in names[some : some + 20]
                for number in range(4_000 if len(names) < 100 else 300)
            ],
            batch_size=5_000,
        )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _size(connection) -> int:  # type: ignore[no-untyped-def]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
        else:
            cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])


if __name__ == "__main__":
    main()
