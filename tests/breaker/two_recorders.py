"""Two who write history at once, over the PostgreSQL of DATABASE_URL: a program, for the suite itself runs on SQLite.

python -m tests.breaker.two_recorders minute|hour: the first stops before it writes a minute, until the second waits for
it or is done. Prints what the row then holds.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import django

AT = datetime(2026, 11, 20, 10, 7, tzinfo=UTC)
LATER = int((AT + timedelta(hours=2)).timestamp() * 1000)


def main(what: str) -> None:
    django.setup()
    from django.core.management import call_command

    from breaker import history
    from breaker.engine.window import Totals
    from breaker.models import HourSample, MinuteSample, Series

    def store(successes: int) -> None:
        history._store_minute("e", AT, {"x": Totals(successes=successes)})

    call_command("migrate", verbosity=0)
    Series.objects.all().delete()
    store(1)
    if what == "minute":
        at_once(lambda: store(100), lambda: store(600))
        print(MinuteSample.objects.get().successes)
    else:
        at_once(lambda: store(100), lambda: history.roll_up(LATER))
        print(HourSample.objects.get().successes)


def at_once(first: Callable[[], Any], second: Callable[[], Any]) -> None:
    from breaker import history

    write, reached, go_on = history._upsert, threading.Event(), threading.Event()

    def stop_first(*args: Any) -> None:
        if threading.current_thread() is one:
            reached.set()
            go_on.wait(10)
        write(*args)

    history._upsert = stop_first
    one, two = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    reached.wait(10)
    two.start()
    while two.is_alive() and not somebody_waits():
        time.sleep(0.01)
    go_on.set()
    one.join()
    two.join()


def somebody_waits() -> bool:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(cursor.fetchone()[0])


if __name__ == "__main__":
    main(sys.argv[1])
