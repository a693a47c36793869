"""Real processes around one database: what they are told by, and what they print."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg

from tests.acceptance.gateway import CHECKOUT, clean_environ


class Place:
    """A migrated, empty database, and how processes find it."""

    def __init__(self, url: str, **more: str) -> None:
        self.environ = clean_environ(
            DATABASE_URL=url,
            DJANGO_DEBUG="true",
            DJANGO_SECRET_KEY="for-the-tests-only-" + "x" * 40,
            DJANGO_SETTINGS_MODULE="config.settings",
            BREAKER_NAMESPACE="outbox",
            BREAKER_TIMEOUT="5",
            GATEWAY_DEFERRED_ROUTES="POST clients",
            **{"MIFOS_BASE_URL": "http://mifos.invalid/fineract-provider", **more},
        )
        self.url = url
        self.manage("migrate", "-v0")
        self.empty()

    def empty(self) -> None:
        path = self.url.removeprefix("sqlite:///")
        database: Any = sqlite3.connect(path) if path != self.url else psycopg.connect(self.url)
        with contextlib.closing(database):
            for table in ("deferredattempt", "deferredrequest", "usedkey"):
                database.execute(f"DELETE FROM mifos_gateway_{table}")
            database.commit()

    def manage(self, *words: str) -> str:
        return self.ran("manage.py", *words)

    def ran(self, *words: str) -> str:
        made = subprocess.run(
            [sys.executable, *words], env=self.environ, cwd=CHECKOUT, capture_output=True, text=True, timeout=100
        )
        assert made.returncode == 0, made.stderr
        return made.stdout

    @contextlib.contextmanager
    def begun(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Killed at the end."""
        with subprocess.Popen(
            [sys.executable, *words], env=self.environ, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def racer(self, *words: str) -> Any:
        return json.loads(self.ran("-m", "tests.mifos_gateway.outbox.racer", *words))

    def racers(self, *roles: tuple[str, ...]) -> list[Any]:
        """At once."""
        with ThreadPoolExecutor(len(roles)) as pool:
            return list(pool.map(lambda words: self.racer(*words), roles))


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'db.sqlite3'}"
