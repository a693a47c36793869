"""What the tests of several folders share."""

from collections.abc import Iterator

import pytest

from config import valkey
from tests.programs import PostgresServer, RedisServer, needs_program

LONGEST_FIRST = (
    "chaos/test_chaos",
    "acceptance/test_prometheus",
    "acceptance/test_opentelemetry",
    "acceptance/test_deferred",
    "acceptance/test_make_up",
    "acceptance/test_dashboard",
    "config/test_production",
    "test_wheel",
    "engine/test_peers_defects",
    "benchmarks/test_smoke",
    "benchmarks/test_deferred",
    "acceptance/",
)
"""Modules of many seconds: begun last, one would keep a process busy while the others have nothing left to do. Beside
the chaos those that wait more than they work."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each file of a kind in the order that chance has given them."""

    def rank(item: pytest.Item) -> int:
        long = (number for number, name in enumerate(LONGEST_FIRST) if item.nodeid.startswith(f"tests/{name}"))
        return next(long, len(LONGEST_FIRST))

    items.sort(key=rank)


@pytest.fixture(autouse=True)
def _no_token_remembered() -> None:
    """Nor a database that was away."""
    from mifos_gateway.outbox.turnstile import turnstile  # needs Django's settings
    from mifos_gateway.token_memory import memory

    memory.forget()
    turnstile.renew()


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One real Redis for the whole run; take `redis_server`, which comes empty."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """A real, empty Redis for tests that leave it running: who kills or pauses takes `own_redis`."""
    shared_redis.flush()
    return shared_redis


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One real Valkey for the whole run; take `valkey_server`, which comes empty."""
    server = RedisServer(tmp_path_factory.mktemp("valkey"), program=valkey.program() or needs_program("valkey-server"))
    yield server
    server.kill()


@pytest.fixture
def valkey_server(shared_valkey: RedisServer) -> RedisServer:
    shared_valkey.flush()
    return shared_valkey


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of this test's own, to kill, pause and restart."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A real PostgreSQL, empty at first."""
    server = PostgresServer(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL of this test's own, to kill and restart."""
    server = PostgresServer(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()
