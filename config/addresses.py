"""What follows from an address: the Redis connections, the cache's database, the breakers' namespace."""

import hashlib
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis.backoff import NoBackoff
from redis.retry import Retry

REDIS_PATIENCE = 0.1  # seconds: no call of ours waits longer for Redis, so its client must not either


def redis_cache(
    url: str, sentinels: list[tuple[str, int]] | None = None, sentinel_password: str | None = None
) -> dict[str, Any]:
    """A django-redis connection that gives up at once; with Sentinels the URL's host is the master's name."""
    options: dict[str, Any] = {
        "SOCKET_TIMEOUT": REDIS_PATIENCE,
        "SOCKET_CONNECT_TIMEOUT": REDIS_PATIENCE,
        # redis-py retries by itself otherwise, and a call was seen to wait 5 s.
        "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 0), "max_connections": 256},
    }
    if sentinels:
        options |= {
            "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
            "SENTINELS": sentinels,
            "SENTINEL_KWARGS": {
                "socket_timeout": REDIS_PATIENCE,
                "socket_connect_timeout": REDIS_PATIENCE,
                "retry": Retry(NoBackoff(), 0),
                "password": sentinel_password,
            },
        }
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, "OPTIONS": options}


def next_database(url: str) -> str:
    """The same Redis, the database number after: a cache's clear() empties its whole database."""
    parts, query = urlsplit(url), dict(parse_qsl(urlsplit(url).query))
    number = int(query.get("db") or (parts.path.strip("/") if parts.scheme != "unix" else "") or 0) + 1
    if parts.scheme == "unix" or "db" in query:
        return f"{url.partition('?')[0]}?{urlencode(query | {'db': str(number)})}"
    return urlunsplit(parts._replace(path=f"/{number}"))


def namespace(base_url: str | None, tenant_id: str) -> str:
    """The same for every way to write one MIFOS, different for two: staging can't open production's breakers."""
    if not base_url:
        return "unconfigured"
    url = urlsplit(base_url)
    path = re.sub(r"(/api)?(/v[12])?/*$", "", url.path)
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    exact = f"{url.scheme}://{url.hostname}:{port}{path}|{tenant_id}"
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{url.hostname}-{tenant_id}").strip("-.")[:60]
    return f"{readable}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"
