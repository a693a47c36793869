"""For a project that runs Celery: a task that sends deferred requests, instead of `manage.py deliver_deferred`.

    app.conf.beat_schedule |= BEAT_SCHEDULE
    app.autodiscover_tasks()

The task only wakes the delivery. What is to be sent stands in the table, with its lease: a message that is lost, comes
twice or is never taken, and a worker that dies in the midst of a task, cost nothing but the time until the next one.
So neither `acks_late` nor retries are needed, nor a result backend.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING

from celery import shared_task

if TYPE_CHECKING:
    from mifos_gateway.outbox.runner import Runner

SECONDS = 20.0
"""How long a task goes on while there is something to send; calls under way then end within their timeout."""
EVERY = 5.0
BEAT_SCHEDULE = {
    "deliver-deferred-requests": {
        "task": "mifos_gateway.deliver_deferred",
        "schedule": EVERY,
        "options": {"expires": EVERY},  # one that nobody has taken till then is the next one's work
    }
}

_under_way = threading.Lock()


@shared_task(name="mifos_gateway.deliver_deferred", ignore_result=True)  # type: ignore[untyped-decorator]
def deliver_deferred(seconds: float = SECONDS) -> int:
    """How many have ended. Ends at once when nothing that can be sent is due, or this process is at it already.

    A time limit of Celery's below `seconds` and the longest BREAKER_TIMEOUT with 10 s cuts calls off; they are sent
    again, with the same key, once their lease has run out.
    """
    if not _under_way.acquire(blocking=False):
        return 0
    try:
        return _runner().run(once=True, seconds=seconds)
    finally:
        _under_way.release()


@cache
def _runner() -> Runner:
    """This process's, made in the child that runs tasks: the next task goes on with its pace."""
    from mifos_gateway.outbox.runner import Runner  # whose models are there only once Django's apps are

    return Runner()
