"""Real processes for the acceptance tests: gateways, a sandbox MIFOS, a Redis of the test's own (`own_redis`)."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.gateway import CHECKOUT, Gateway, clean_environ, mifos_environ


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(port=0) as mifos:
        yield mifos


@pytest.fixture(scope="session")
def _database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once. It is for `copy_database` alone: what a gateway writes into it, others would find in theirs."""
    path = tmp_path_factory.mktemp("database") / "db.sqlite3"
    environ = clean_environ(DJANGO_DEBUG="true", DATABASE_URL=f"sqlite:///{path}")
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], env=environ, cwd=CHECKOUT, check=True, timeout=60)
    return path


@pytest.fixture(scope="session")
def token(_database: Path) -> str:
    """Good for maker and checker, in every copy of the database."""
    made = subprocess.run(
        [sys.executable, "manage.py", "create_consumer", "acceptance", "--maker", "--checker"],
        env=clean_environ(DJANGO_DEBUG="true", DATABASE_URL=f"sqlite:///{_database}"),
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return made.stdout.split()[-1]


@pytest.fixture(scope="session")
def copy_database(_database: Path, token: str) -> Callable[[Path], object]:
    """Puts a migrated database, with the token's consumer, into a folder where a gateway looks for it."""
    return lambda folder: shutil.copy(_database, folder / "db.sqlite3")


@pytest.fixture
def start_gateway(
    tmp_path: Path, copy_database: Callable[[Path], object], token: str, sandbox: Sandbox
) -> Iterator[Callable[..., Gateway]]:
    """`start_gateway(REDIS_URL=…, BREAKER_TIMEOUT="1")`; several in a test share database and sandbox."""
    copy_database(tmp_path)
    started: list[Gateway] = []

    def start(**environ: str) -> Gateway:
        started.append(Gateway(tmp_path, mifos_environ(sandbox) | environ, token))
        return started[-1]

    yield start
    for gateway in started:
        gateway.stop()


@pytest.fixture
def gateway(start_gateway: Callable[..., Gateway], redis_server) -> Gateway:
    """One gateway of two workers, on a Redis that stays up."""
    return start_gateway(REDIS_URL=redis_server.patient_url)
