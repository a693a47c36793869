"""A project's Celery, as README says: python -m celery -A tests.mifos_gateway.outbox.celery_app worker --beat"""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import task_prerun

from mifos_gateway.tasks import BEAT_SCHEDULE

app = Celery("project", broker=os.environ["CELERY_BROKER_URL"])
app.conf.beat_schedule = BEAT_SCHEDULE
app.conf.worker_hijack_root_logger = False
app.autodiscover_tasks(["mifos_gateway"])


@task_prerun.connect
def say(**_: object) -> None:
    """Which child has begun one, for who wants to kill it."""
    print(f"task in {os.getpid()}", flush=True)
