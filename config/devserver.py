"""`make up`: starts the gateway in development mode, with all it needs that is not configured, and ends it all.

Every child is tied to this process by the kernel (`config.tether`), so that none outlives it, however it ends.
"""

import argparse
import fcntl
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from config import devstate, env, tether, valkey
from config.production import REQUIRED

STOP_SECONDS = 5.0
GRACEFUL_SECONDS = 4  # a running call is cut after this
KILL_AFTER = 4.4  # so that what is killed then is gone within STOP_SECONDS
READY_SECONDS = 30.0
RESTARTS_AT_MOST = 5  # of one child within RESTARTS_WITHIN
RESTARTS_WITHIN = 30.0
SANDBOX_PATH = "/fineract-provider/api/v1"
CREDENTIALS = [name for name in REQUIRED if re.fullmatch("MIFOS_(MAKER|CHECKER)_(USERNAME|PASSWORD)", name)]


class Ended(Exception):
    """The run is over: asked for (code 0), or with a reason to tell."""

    def __init__(self, reason: str = "", code: int = 1) -> None:
        super().__init__(reason)
        self.code = code


class Child:
    """A process that ends when we do."""

    def __init__(self, name: str, command: list[str], environ: dict[str, str], log: Path | None = None) -> None:
        self.name, self.command, self.environ, self.log = name, command, environ, log
        self.starts: list[float] = []
        self.start()

    def start(self) -> None:
        self.starts.append(time.monotonic())
        output: IO[bytes] | None = open(self.log, "ab") if self.log else None  # noqa: SIM115 - closed below
        self.process = subprocess.Popen(
            [sys.executable, "-I", tether.__file__, str(os.getpid()), *self.command],
            env=self.environ,
            cwd=devstate.CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C is for us alone: we end them in order.
            start_new_session=True,
        )
        if output:
            output.close()

    @property
    def code(self) -> int | None:
        return self.process.poll()

    def stop(self, within: float, number: int = signal.SIGTERM) -> None:
        """Asks it to end; after that many seconds, makes it."""
        if self.code is None:
            self.process.send_signal(number)
        try:
            self.process.wait(max(within, 0.0))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Run:
    """One `make up`, from the lock on its folder to the last child's end."""

    def __init__(self, *, host: str, port: int, parent: int | None) -> None:
        self.host, self.port, self.parent = host, port, parent
        self.folder = devstate.folder(port)
        self.children: dict[str, Child] = {}
        self.asked = 0
        self.wake, wake_end = os.pipe()
        os.set_blocking(wake_end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes `pause`

    def _ask(self, number: int, frame: object) -> None:
        self.asked = number

    # --- Starting ---

    def begin(self) -> None:
        if self.parent:
            tether.die_with(self.parent, signal.SIGTERM)
        self._lock()
        self._check_port()
        kept = devstate.load(self.folder / "kept")
        environ = self._choose(kept)
        devstate.save(self.folder / "env", saved_part(environ))
        self._prepare(environ)
        self.children["gunicorn"] = Child(
            "gunicorn", [sys.executable, "-m", "gunicorn", "-c", "config/gunicorn.conf.py", "config.wsgi"], environ
        )
        self.wait_until(self._serves, "gunicorn")
        self.children["runner"] = Child("runner", [sys.executable, "manage.py", "deliver_deferred"], environ)
        say(banner(environ, devstate.load(self.folder / "kept"), "sandbox" in self.children))

    def _lock(self) -> None:
        """Held until this process ends, in whatever way."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Ended(
                f"PORT={self.port}: a `make up` of this checkout serves there already: end it, or set another PORT"
            ) from None

    def _check_port(self) -> None:
        if problem := cannot_listen(self.host, self.port):
            raise Ended(f"HOST={self.host} PORT={self.port}: {problem}: set another PORT (make up PORT=8001)")

    def _choose(self, kept: dict[str, str]) -> dict[str, str]:
        """The environment of all that runs, with what nobody has configured started or made."""
        environ = dict(os.environ) | {
            "HOST": self.host,
            "PORT": str(self.port),
            "DJANGO_DEBUG": "true",
            "GUNICORN_GRACEFUL_TIMEOUT": str(GRACEFUL_SECONDS),
            tether.WITH_PARENT: "1",
        }
        if not is_set("DJANGO_SECRET_KEY"):
            environ["DJANGO_SECRET_KEY"] = kept.setdefault("secret_key", secrets.token_urlsafe(50))
        if not is_set("DATABASE_URL"):
            environ["DATABASE_URL"] = f"sqlite:///{quote(str(self.folder / 'db.sqlite3'))}"
        if not is_set("REDIS_URL"):
            environ["REDIS_URL"] = self._start_valkey(kept, environ)
        if not is_set("MIFOS_BASE_URL"):
            environ |= self._start_sandbox(kept, environ)
            # The address may change from run to run, the breakers' state shall not.
            environ.setdefault("BREAKER_NAMESPACE", f"sandbox-{self.port}")
        devstate.save(self.folder / "kept", kept)
        return environ

    def _start_valkey(self, kept: dict[str, str], environ: dict[str, str]) -> str:
        if not valkey.program():
            raise Ended("REDIS_URL is unset, and no embedded server is to be had for this machine: set REDIS_URL")
        password = kept.setdefault("valkey_password", secrets.token_hex(24))

        def start(port: int) -> tuple[list[str], Callable[[], bool]]:
            server = valkey.Embedded(self.folder / "valkey", port, password)
            return server.command(), server.answers

        port = self._start_on_a_port("valkey", kept, environ, start)
        return valkey.Embedded(self.folder / "valkey", port, password).url

    def _start_sandbox(self, kept: dict[str, str], environ: dict[str, str]) -> dict[str, str]:
        def start(port: int) -> tuple[list[str], Callable[[], bool]]:
            command = [sys.executable, "-m", "mifos_gateway.sandbox", "--port", str(port)]
            return command, lambda: bool(answer(port, "GET /__sandbox"))

        port = self._start_on_a_port("sandbox", kept, environ, start)
        return {
            "MIFOS_BASE_URL": f"http://127.0.0.1:{port}{SANDBOX_PATH}",
            "MIFOS_TENANT_ID": "default",
            "MIFOS_MAKER_USERNAME": "maker",
            "MIFOS_MAKER_PASSWORD": "sandbox-maker",
            "MIFOS_CHECKER_USERNAME": "checker",
            "MIFOS_CHECKER_PASSWORD": "sandbox-checker",
        }

    def _start_on_a_port(
        self,
        name: str,
        kept: dict[str, str],
        environ: dict[str, str],
        start: Callable[[int], tuple[list[str], Callable[[], bool]]],
    ) -> int:
        """On the port of last time where that is free; another may take a free one before we do, so several tries."""
        log = self.folder / f"{name}.log"
        for attempt in range(3):
            port = int(kept.get(f"{name}_port", 0))
            if attempt or not port or cannot_listen("127.0.0.1", port):
                port = free_port()
            command, is_ready = start(port)
            child = self.children[name] = Child(name, command, environ, log)
            with suppress(Ended):
                self.wait_until(is_ready, name)
                kept[f"{name}_port"] = str(port)
                return port
            if self.asked:
                raise Ended(code=0)
            child.stop(within=1)
        raise Ended(f"{name} doesn't start: see {log}")

    def _prepare(self, environ: dict[str, str]) -> None:
        child = self.children["prepare"] = Child("prepare", [sys.executable, "-m", "config.devdata"], environ)
        while child.code is None:
            self.pause(0.5)
        if child.code:
            raise Ended("the database could not be prepared, for the reason above")
        del self.children["prepare"]

    def _serves(self) -> bool:
        return bool(answer(self.port, "GET /livez", local_host(self.host)))

    # --- Waiting and watching ---

    def pause(self, seconds: float) -> None:
        """Sleeps until a signal comes, or so long."""
        if not self.asked and select.select([self.wake], [], [], seconds)[0]:
            os.read(self.wake, 512)
        if self.parent and interrupted(self.parent):
            self.asked = signal.SIGINT
        if self.asked:
            raise Ended(code=0)

    def wait_until(self, is_ready: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not is_ready():
            if (code := self.children[name].code) is not None:
                raise Ended(f"{name} ended with exit code {code} before it served", code=max(code, 1))
            if time.monotonic() > deadline:
                raise Ended(f"{name} doesn't serve after {READY_SECONDS:.0f} s")
            self.pause(0.05)

    def watch(self) -> None:
        while True:
            self.pause(0.25)
            for child in list(self.children.values()):
                if child.code is not None:
                    self._replace(child)

    def _replace(self, child: Child) -> None:
        if child.name == "gunicorn":
            raise Ended(f"gunicorn ended with exit code {child.code}", code=child.code or 1)
        if len([at for at in child.starts if at > time.monotonic() - RESTARTS_WITHIN]) > RESTARTS_AT_MOST:
            raise Ended(f"{child.name} ends again and again: see {child.log or 'above'}")
        say(f"{child.name} ended unexpectedly (exit code {child.code}) and is started again")
        child.start()

    def end(self) -> None:
        """The server first, then what it still talks to; nothing is left after STOP_SECONDS."""
        began = time.monotonic()
        if (runner := self.children.get("runner")) and runner.code is None:
            runner.process.terminate()  # it finishes what it is sending, as gunicorn does
        for name in ("gunicorn", "runner", "prepare"):
            if child := self.children.pop(name, None):
                child.stop(within=KILL_AFTER - (time.monotonic() - began))
        for child in self.children.values():
            if child.code is None:
                child.process.terminate()
        for child in self.children.values():
            child.stop(within=min(1.0, STOP_SECONDS - 0.3 - (time.monotonic() - began)))


def is_set(name: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def without_credentials(values: Mapping[str, Any]) -> list[str]:
    """What a MIFOS of one's own lacks: the sandbox's users are no good there, and nobody is to be called without."""
    if not values["MIFOS_BASE_URL"]:
        return []
    return [f"MIFOS_BASE_URL is set, {name} is not: {REQUIRED[name]}" for name in CREDENTIALS if not values[name]]


def saved_part(environ: dict[str, str]) -> dict[str, str]:
    """What a command of the same PORT needs to find all this."""
    names = env.NAMES | {f"{name}_FILE" for name in env.NAMES}
    return {name: value for name, value in environ.items() if name in names}


def cannot_listen(host: str, port: int) -> str:
    """Why not, or nothing."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def local_host(host: str) -> str:
    """Where to reach a server that listens on all addresses."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound


def answer(port: int, request: str, host: str = "127.0.0.1") -> bytes:
    """The first line of an HTTP server's answer when that is a 200, else nothing."""
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(f"{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            line = connection.makefile("rb").readline()
    except OSError:
        return b""
    return line if b" 200 " in line else b""


def interrupted(parent: int) -> bool:
    """Whether GNU make, our parent, waits for us to end because SIGINT or SIGHUP came to it alone.

    It passes on SIGTERM only. Linux shows that its handler runs: the signal is blocked and back to its default.
    """
    with suppress(OSError, ValueError, KeyError):
        lines = Path(f"/proc/{parent}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        blocked, caught, ignored = (int(status[name], 16) for name in ("SigBlk", "SigCgt", "SigIgn"))
        signals = 1 << (signal.SIGINT - 1) | 1 << (signal.SIGHUP - 1)
        return status["Name"] == "make" and bool(blocked & ~caught & ~ignored & signals)
    return False


def banner(environ: dict[str, str], kept: dict[str, str], has_sandbox: bool) -> str:
    base = f"http://{bracketed(local_host(environ['HOST']))}:{environ['PORT']}"
    mifos = environ.get("MIFOS_BASE_URL", "(from its file)")
    redis = re.sub("//.*@", "//", environ.get("REDIS_URL", "(from its file)"))
    third = f"curl {base}/api/v1/circuit-breaker/health"
    if has_sandbox:
        address = mifos.removesuffix(SANDBOX_PATH)
        third = f"""curl -X POST {address}/__faults -H "Content-Type: application/json" -d '{{"mode": "error"}}'"""
    return f"""
mifos-gateway serves in development mode; Ctrl-C ends it and all it started.

  gateway    {base}/api/v1/    documentation {base}/api/docs/
  admin      {base}/admin/    user {kept["admin_user"]}    password {kept["admin_password"]}
  token      {kept["token"]}
  MIFOS      {mifos}{"    (the sandbox)" if has_sandbox else ""}
  Redis      {redis}
  data       {devstate.folder(environ["PORT"])}

  curl -H "Authorization: Token {kept["token"]}" {base}/api/v1/mifos/maker/clients
  curl {base}/api/v1/circuit-breaker/status
  {third}
"""


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def say(text: str) -> None:
    with suppress(OSError):  # nobody reads any more: no reason to end
        print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m config.devserver", description=__doc__)
    parser.add_argument("--parent", type=int, help="end when this process, our parent, ends")
    options = parser.parse_args()
    try:
        values = env.read()
    except env.BadEnvironment as error:
        print(error, file=sys.stderr)
        return 1
    if missing := without_credentials(values):
        print(*(f"make up: {each}" for each in missing), sep="\n", file=sys.stderr)
        return 1
    run = Run(host=values["HOST"], port=values["PORT"], parent=options.parent)
    try:
        run.begin()
        run.watch()
    except Ended as ended:
        if str(ended):
            print(f"make up: {ended}", file=sys.stderr, flush=True)
        return ended.code
    finally:
        run.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
