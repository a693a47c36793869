"""What the tests of several folders share."""

from collections.abc import Iterator

import pytest

from tests.programs import PostgresServer, RedisServer


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
