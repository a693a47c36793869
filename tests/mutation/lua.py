"""Hand-made mutants of the Lua scripts: `.venv/bin/python -m tests.mutation.lua` says which of them no test
notices, and which test noticed the others. Their numbers as arguments: these alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import resources

import pytest

from breaker.engine import stores

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
ONE_REDIS = "not (memory or resp3 or cluster or valkey)"
"""Of the contract's stores: the others run the same scripts, or none."""


def source(name: str) -> str:
    """A script as it stands, whatever a plugin hands out."""
    return (resources.files(stores) / "lua" / f"{name}.lua").read_text("utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """As pytest's plugin: hand out the script with its fault."""
    from breaker.engine.stores import redis

    name, old, new = MUTANTS[int(os.environ["LUA_MUTANT"])]
    if old not in source(name):
        raise pytest.UsageError(f"{name}.lua has no more {old!r}")
    redis._script = lambda asked: source(asked).replace(old, new, 1 if asked == name else 0)  # type: ignore[assignment]


def tried(*plugin: str, **environment: str) -> tuple[int, str]:
    """Pytest's exit code, and the test that failed first."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", *plugin, "-p", "no:randomly", "--timeout=20"]
    command += ["-k", ONE_REDIS, *TESTS]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    failed = re.search(r"^(?:FAILED|ERROR) \S+::(\w+)", done.stdout, re.MULTILINE)
    return done.returncode, failed[1] if failed else ""


def main() -> None:
    code, failed = tried()
    if code:
        raise SystemExit(f"The scripts as they stand fail: {failed or code}. A mutant would prove nothing.")
    survived = 0
    for number in map(int, sys.argv[1:] or range(len(MUTANTS))):
        name, old, new = MUTANTS[number]
        code, failed = tried("-p", "tests.mutation.lua", LUA_MUTANT=str(number))
        survived += code == 0
        verdict = {0: "survived", 1: "killed"}.get(code, f"error {code}")
        print(f"{number:>2} {verdict:<9} {name:<7} {old!r} -> {new!r}  {failed}", flush=True)
    print(f"{survived} survived")


if __name__ == "__main__":
    main()
