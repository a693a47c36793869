"""A real gateway for acceptance tests: gunicorn, its workers, its commands, its log."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import requests

from config.env import NAMES
from mifos_gateway.sandbox.server import Sandbox
from tests.programs import free_port, wait_for

T = TypeVar("T")

CHECKOUT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 15.0


def clean_environ(**variables: str) -> dict[str, str]:
    """This process's environment without any setting of the gateway, then these."""
    ours = NAMES | {f"{name}_FILE" for name in NAMES} | {"DJANGO_SETTINGS_MODULE"}
    theirs = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith("OTEL_")}
    return theirs | variables


def mifos_environ(sandbox: Sandbox) -> dict[str, str]:
    return {
        "MIFOS_BASE_URL": sandbox.base_url,
        "MIFOS_MAKER_USERNAME": "maker",
        "MIFOS_MAKER_PASSWORD": "sandbox-maker",
        "MIFOS_CHECKER_USERNAME": "checker",
        "MIFOS_CHECKER_PASSWORD": "sandbox-checker",
    }


class Gateway:
    """`Gateway(folder, environ)` serves in development mode unless environ says otherwise; `stop()` it at the end."""

    def __init__(self, folder: Path, environ: dict[str, str], token: str = "") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = folder / f"gateway-{self.port}.log"
        self.environ = clean_environ(
            **{
                "PORT": str(self.port),
                "DJANGO_DEBUG": "true",
                "DJANGO_SECRET_KEY": uuid.uuid4().hex * 2,
                "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
                "BREAKER_NAMESPACE": "acceptance",
                "WEB_THREADS": "8",
                "GUNICORN_GRACEFUL_TIMEOUT": "5",
            }
            | environ
        )
        self._token = token
        self.start()

    def start(self) -> None:
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "config/gunicorn.conf.py", "config.wsgi"],
                env=self.environ,
                cwd=CHECKOUT,
                stdout=log,
                stderr=log,
            )
        try:
            wait_for(self._serves_or_ended, "the gateway serves")
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{self.log}")

    def _serves_or_ended(self) -> bool:
        if self.process.poll() is not None:
            return True
        try:
            return requests.get(f"{self.url}/livez", timeout=1).ok
        except requests.RequestException:
            return False

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def workers(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    @property
    def token(self) -> str:
        """Good for maker and checker; made by the command at first use."""
        if not self._token:
            made = self.manage("create_consumer acceptance --maker --checker")
            assert made.returncode == 0, made.stderr
            self._token = made.stdout.strip().splitlines()[-1]
        return self._token

    def manage(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *shlex.split(command)],
            env=self.environ,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def call(self, method: str, path: str, *, user: str = "maker", timeout: float = 60, **options: object):
        """Through the gateway to MIFOS, with a token."""
        headers = {"Authorization": f"Token {self.token}"} | dict(options.pop("headers", {}))  # type: ignore[call-overload]
        url = f"{self.url}/api/v1/mifos/{user}/{path}"
        return requests.request(method, url, headers=headers, timeout=timeout, **options)

    def _ask_status(self) -> requests.Response:
        return requests.get(f"{self.url}/api/v1/circuit-breaker/status", timeout=10)

    def status(self) -> dict:
        return self._ask_status().json()["data"]

    def workers_say(self, tell: Callable[[dict], T]) -> set[T]:
        """What `tell` makes of each worker's /status, asked until all have answered.

        The kernel chooses who does, and may choose one many times in a row. Who it was stands in the access log.
        """
        told: dict[str, T] = {}
        said: dict[int, T] = {}

        def all_have_answered() -> bool:
            answer = self._ask_status()
            told[answer.headers["X-Request-Id"]] = tell(answer.json()["data"])
            said.update((pid, told[request]) for pid, request in self._accesses() if request in told)
            return said.keys() >= set(self.workers)

        wait_for(all_have_answered, "each worker has answered")
        return {said[pid] for pid in self.workers if pid in said}

    def _accesses(self) -> Iterator[tuple[int, str]]:
        """Worker and request of each line of the access log, in either format."""
        for line in self.log.rpartition("\n")[0].splitlines():  # what follows is being written
            if plain := re.search(r"\[(\d+)\] \[([^]]+)\] gateway\.access: ", line):
                yield int(plain[1]), plain[2]
            elif line.startswith("{") and (entry := json.loads(line))["logger"] == "gateway.access":
                yield entry["process"], entry["requestId"]

    def is_shared(self) -> bool:
        """Whether each worker follows the shared state."""
        return self.workers_say(lambda data: data["shared"]) == {True}

    def is_alone(self) -> bool:
        """Whether each worker guards alone."""
        return self.workers_say(lambda data: data["shared"]) == {False}

    def wait_until_open(self) -> None:
        """Until each worker has heard that Maker GET is: the others hear a moment after the one that decided."""
        wait_for(lambda: self.workers_say(lambda data: data["maker"]["get"]["state"]) == {"OPEN"}, "all know it open")

    def counted(self, fires: int) -> dict:
        """What a worker says of Maker GET, once it has so many calls: asked again, another may still have fewer."""
        found: list[dict] = []

        def all_are_there() -> bool:
            found.append(self.status()["maker"]["get"])
            return found[-1]["stats"]["fires"] == fires

        wait_for(all_are_there, f"{fires} calls are counted")
        return found[-1]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code; a SIGKILL takes the workers too, so that no test leaves any."""
        workers: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):  # one that ends meanwhile
            workers = psutil.Process(self.process.pid).children() if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        return self.process.returncode


class Runner:
    """A gateway's `manage.py deliver_deferred`; the test is to it what systemd is in production."""

    def __init__(self, gateway: Gateway, *words: str) -> None:
        self._gateway, self._words = gateway, words
        self.log_path = gateway.log_path.with_name(f"runner-{uuid.uuid4().hex[:8]}.log")
        self.start()

    def start(self) -> None:
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "deliver_deferred", *self._words],
                env=self._gateway.environ,
                cwd=CHECKOUT,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")
