"""Hand-made mutants of the Lua scripts: `.venv/bin/python -m tests.mutation.lua` says which of them no test notices."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MUTANTS = [
    ("push", "if sequence > tonumber", "if sequence >= tonumber"),
    ("push", 'redis.call("PEXPIRE", hash, counts[1])', ""),
    ("push", 'redis.call("ZINCRBY", minutes, 1, minute)', ""),
    ("push", 'redis.call("PEXPIRE", minutes, listed_for)', ""),
    ("push", 'redis.call("SET", applied, sequence,', 'redis.call("SET", applied, 0,'),
    ("push", 'redis.call("ZADD", processes, now, process)', ""),
    ("push", "if tonumber(ends) > now then", "if true then"),
    ("push", "math.min(now + lease_for, tonumber(longest))", "now + lease_for"),
    ("push", 'redis.call("EXISTS", awaited) == 0', "true"),
    ("push", 'redis.call("SREM", awaited, process) == 1', "true"),
    ("push", "now - live_for", "0"),
    ("write", "if stored == rev then", "if false then"),
    ("write", "stored ~= expected or", ""),
    ("write", "or now > deadline", ""),
    ("write", "or now < not_before", ""),
    ("write", "if not lease or", "if lease and"),
    ("write", "<= now then\n    return answer(0)", "<= 0 then\n    return answer(0)"),
    ("write", 'redis.call("PEXPIRE", circuit, unseen)', ""),
    ("write", 'redis.call("DEL", leases)', ""),
    ("write", "if stored_at then", "if false then"),
    ("write", "math.min(stored_at, now - followed)", "now - followed"),
    ("write", "math.min(stored_at, now - followed)", "stored_at"),
    ("write", 'redis.call("XTRIM", events, "MAXLEN", "~", keep)', ""),
    ("write", 'if change ~= "" then', "if false then"),
    ("write", 'if change ~= "" then', "if true then"),
    ("write", 'redis.call("HDEL", totals, "since")', ""),
    ("write", 'if opens == "1" then', "if true then"),
    ("write", 'redis.call("PEXPIRE", totals, unseen)', ""),
    ("found", '"founded", 1) == 0', '"founded", 1) == 1'),
    ("found", "more = more - held", ""),
    ("found", "if more > 0 then", "if true then"),
    ("found", 'if field == "o" then', "if false then"),
    ("found", 'redis.call("PEXPIRE", totals, kept_for)', ""),
    ("lease", "now > deadline or ", ""),
    ("lease", ' or redis.call("HGET", circuit, "id") ~= generation', ""),
    ("lease", "if left <= 0 or left > lease_for then", "if left <= 0 then"),
    ("lease", "if left <= 0 or left > lease_for then", "if left > lease_for then"),
    ("lease", "elseif held[i] == token then", "elseif false then"),
    ("lease", "if count >= slots then", "if count > slots then"),
    ("lease", "math.min(now + lease_for, longest)", "now + lease_for"),
    ("lease", 'redis.call("PEXPIRE", leases, longest_for + lease_for)', ""),
    ("gather", "if #hash > 0 then", "if true then"),
    ("gather", "found[#found + 1] = i - 1", "found[#found + 1] = i"),
]
TESTS = ["tests/engine/test_store_contract.py", "tests/engine/test_redis_store.py"]


def pytest_configure(config: pytest.Config) -> None:
    """As pytest's plugin: hand out the script with its fault."""
    from breaker.engine.stores import redis

    name, old, new = MUTANTS[int(os.environ["LUA_MUTANT"])]
    whole = redis._script
    redis._script = lambda asked: whole(asked).replace(old, new, 1) if asked == name else whole(asked)  # type: ignore[assignment]
    if old not in whole(name):
        raise pytest.UsageError(f"{name}.lua has no more {old!r}")


def main() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.mutation.lua", "-p", "no:randomly"]
    command += ["--timeout=20", "-k", "redis and not resp3 and not cluster", *TESTS]
    survived = 0
    for number, (name, old, new) in enumerate(MUTANTS):
        environment = {**os.environ, "LUA_MUTANT": str(number)}
        code = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, timeout=120).returncode
        survived += code == 0
        verdict = {0: "survived", 1: "killed"}.get(code, f"error {code}")
        print(f"{verdict:<9} {name:<7} {old!r} -> {new!r}", flush=True)
    print(f"{len(MUTANTS)} mutants, {survived} survived")


if __name__ == "__main__":
    main()
