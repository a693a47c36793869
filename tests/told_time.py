"""A real Redis whose clock a test moves: its scripts read the time from a key, and all else is as it is."""

from __future__ import annotations

from typing import Any

import redis

_TIME = 'redis.call("TIME")'
_KEY = "told-time"


class ToldRedis(redis.Redis):
    """A client whose registered scripts take the time that `tell` has set for Redis's own."""

    def register_script(self, script: Any) -> Any:
        assert _TIME in script, "a script that asks for the time in another way"
        return super().register_script(script.replace(_TIME, f'redis.call("HMGET", "{_KEY}", "seconds", "micros")'))


def tell(client: redis.Redis, seconds: float) -> None:
    """It is now so many seconds after 1970 for that Redis."""
    client.hset(_KEY, mapping={"seconds": int(seconds), "micros": round(seconds % 1 * 1e6)})
