"""Programs that a test may need and a machine may lack, and the servers that tests start from them."""

import contextlib
import functools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest
import redis

from config import valkey

READY_SECONDS = 20.0


def needs_program(*names: str) -> str:
    """The path of the first of these that is there; else the test is skipped, or fails where CI=true promises them."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    return lacks(f"needs {' or '.join(names)}, which is not on this machine")


def lacks(reason: str) -> NoReturn:
    """Skips a test for what the machine lacks, or fails it where CI=true promises that it does not."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)


_chance = random.SystemRandom()  # pytest-randomly seeds the other one alike in each process


def free_port() -> int:
    """One that stays free until a server takes it: below those that the kernel gives to whoever connects."""
    while True:
        port = _chance.randrange(12_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_for(is_so: Callable[[], object], what: str, seconds: float = READY_SECONDS) -> None:
    """For real processes only: looks again until it is so, fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class RedisServer:
    """A real Redis (redis-server where it is, else the embedded Valkey) that a test may kill, pause and empty."""

    def __init__(self, folder: Path, *, program: str | Path | None = None, **options: str) -> None:
        self.program = program or shutil.which("redis-server") or valkey.program() or needs_program("redis-server")
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.patient_url = f"{self.url}?socket_timeout=2&socket_connect_timeout=2"
        """For gateways of tests that are not about a Redis that is late. With more processes than cores its answer may
        take more than the 0.1 s of the service, and a worker that goes on alone for a while opens, tries and closes
        for itself."""
        self.start()

    def start(self) -> None:
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self.folder, "save": "", "appendonly": "no"}
        options |= {name.replace("_", "-"): value for name, value in self.options.items()}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.process = subprocess.Popen([self.program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(self._answers, "Redis answers")
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def client(self, **options: object) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_timeout=5, **options)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends it at once; `start` brings it back on the same port, empty."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()


class PostgresServer:
    """A real PostgreSQL with an empty database, on a loopback port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"postgres://gateway:for-tests@127.0.0.1:{self.port}/postgres"
        initdb, postgres = needs_program("initdb"), needs_program("postgres")
        # PostgreSQL refuses to run as root.
        who = {"user": "postgres"} if os.geteuid() == 0 else {}
        data = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))
        if who:
            shutil.chown(data, "postgres")
        password = folder / "password"
        password.write_text("for-tests")
        options = ["--username=gateway", "--auth=scram-sha-256", "--pwfile=/dev/stdin", "--no-sync"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with open(password, "rb") as secret:
            subprocess.run([initdb, "-D", data, *options], stdin=secret, cwd=data, check=True, **who, **quiet)
        options = ["-p", str(self.port), "-h", "127.0.0.1", "-k", "", "-c", "fsync=off"]
        self.data = data
        self._begin = functools.partial(subprocess.Popen, [postgres, "-D", data, *options], cwd=data, **who, **quiet)
        self.start()

    def start(self) -> None:
        self.process = self._begin()
        wait_for(self._answers, "PostgreSQL answers")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """At once, as after a crash; `start` brings it back with its data."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)
