"""What the checks refuse, and what they let pass."""

from typing import Any

import pytest
from django.core.checks import run_checks

from config.addresses import redis_cache
from tests.programs import RedisServer

LOCAL_MEMORY = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "redis://one:6379/0"}


def found(**more: Any) -> list[str | None]:
    return [message.id for message in run_checks(**more) if str(message.id).startswith("breaker.")]


def said() -> str:
    (message,) = [message for message in run_checks() if str(message.id).startswith("breaker.")]
    return message.msg


def cache(location: Any, backend: str = "django_redis.cache.RedisCache", **more: Any) -> dict[str, Any]:
    return {"BACKEND": backend, "LOCATION": location, **more}


def caches(mine: Any, other: Any) -> dict[str, Any]:
    return {"default": other if isinstance(other, dict) else cache(other), "breaker": cache(mine)}


def test_the_tests_own_settings_pass() -> None:
    assert found() == []


# -- E001 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"timeout": 5000}, {"timeot": 5}, {"enabled": "yes"}, None, 7, {7: 7}])
def test_options_that_make_no_policy_are_e001(settings: Any, options: Any) -> None:
    settings.BREAKER = {"BREAKERS": {"x": options}}
    assert found() == ["breaker.E001"]


def test_e001_says_whose_options_and_what_is_wrong(settings: Any) -> None:
    settings.BREAKER = {"BREAKERS": {"balance": {"timeot": 5}}}
    assert said() == "BREAKER settings of balance: timeot: no such option; did you mean timeout?"


def test_bad_defaults_are_e001(settings: Any) -> None:
    settings.BREAKER = {"DEFAULTS": {"volume_threshold": 0}}
    assert "breaker.E001" in found()


def test_good_options_pass(settings: Any) -> None:
    settings.BREAKER = {"DEFAULTS": {"timeout": 5}, "BREAKERS": {"x": {"reset_timeout": 9}, "maker": {}}}
    assert found() == []


# -- E002 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        ("redis://one:6379/1", "redis://one:6379/1"),
        ("redis://one:6379/0", "redis://one"),
        ("redis://one/0", "rediss://user:secret@ONE:6379/"),
        ("redis://one/2", "redis://one/7?db=2"),
        ("redis://localhost:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis:///1", "redis://localhost/1"),
        ("redis://[::1]:6380/1", "redis://localhost:6380/1"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("unix:///run/redis.sock", "unix://user:secret@/run/redis.sock?db=0"),
        ("redis://one/1", ["redis://two/1", "redis://one/1"]),
        ("redis://one/1", "redis://two/1,redis://one/1"),
        ("redis://one/1", cache("redis://one/1", backend="django.core.cache.backends.redis.RedisCache")),
        ("redis://one/1", cache("redis://one", OPTIONS={"db": 1})),
        ("redis://one:port/1", "redis://one:port/1"),
    ],
)
def test_a_cache_in_the_breakers_database_is_e002(settings: Any, mine: Any, other: Any) -> None:
    settings.CACHES = caches(mine, other)
    assert found() == ["breaker.E002"]


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        ("redis://one/0", "redis://one/1"),
        ("redis://one/0", "redis://two/0"),
        ("redis://one:6379/0", "redis://one:6380/0"),
        ("redis://one/0", "redis://one/0?db=1"),
        ("unix:///run/one.sock", "unix:///run/two.sock"),
        ("unix:///run/one.sock?db=0", "unix:///run/one.sock?db=1"),
        ("redis://one/0", LOCAL_MEMORY),
        ("redis://one/0", {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}),
        ("redis://one/0", cache("redis://one", OPTIONS={"db": 1})),
    ],
)
def test_a_cache_elsewhere_passes(settings: Any, mine: Any, other: Any) -> None:
    settings.CACHES = caches(mine, other)
    assert found() == []


def test_the_breakers_own_connection_is_exempt(settings: Any) -> None:
    settings.CACHES = {"default": LOCAL_MEMORY, "breaker": cache("redis://one/0")}
    assert found() == []


def test_the_connection_may_have_another_name(settings: Any) -> None:
    settings.BREAKER = {"REDIS_ALIAS": "state"}
    settings.CACHES = {"default": cache("redis://one/0"), "state": cache("redis://one/0")}
    assert found() == ["breaker.E002"]


def test_without_a_connection_caches_may_be_anywhere(settings: Any) -> None:
    settings.CACHES = {"default": cache("redis://one/0"), "sessions": cache("redis://one/0")}
    assert found() == []


# -- W001 --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _redis(redis_server: RedisServer, settings: Any) -> Any:
    settings.CACHES = {**settings.CACHES, "breaker": redis_cache(redis_server.url, None, None)}
    yield
    with redis_server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.usefixtures("_redis")
def test_a_redis_that_evicts_is_w001(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    assert found(include_deployment_checks=True) == ["breaker.W001"]


@pytest.mark.usefixtures("_redis")
def test_a_redis_that_does_not_evict_passes() -> None:
    assert found(include_deployment_checks=True) == []


@pytest.mark.usefixtures("_redis")
def test_redis_is_asked_for_a_deployment_only(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    assert found() == []


def test_a_redis_that_is_away_is_nothing_to_warn_of(settings: Any) -> None:
    settings.CACHES = {**settings.CACHES, "breaker": redis_cache("redis://127.0.0.1:1/0", None, None)}
    assert found(include_deployment_checks=True) == []
