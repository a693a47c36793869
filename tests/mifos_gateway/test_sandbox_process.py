"""The sandbox as a process: what it prints, how it ends, what it needs."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE = (sys.executable, "-m", "mifos_gateway.sandbox")
MANAGE = (sys.executable, "manage.py", "mifos_sandbox")
BARE = {name: value for name, value in os.environ.items() if not name.startswith(("MIFOS_", "DATABASE_", "DJANGO_"))}


@contextmanager
def running(*command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and its address as it printed it."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=BARE)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def address(line: str) -> str:
    found = re.fullmatch(r"sandbox MIFOS on (http://127\.0\.0\.1:\d+)/fineract-provider/api/v1\n", line)
    assert found, line
    return found[1]


@pytest.mark.parametrize("command", [MODULE, MANAGE], ids=["module", "manage"])
def test_it_prints_where_it_serves(command: tuple[str, ...]) -> None:
    with running(*command, "--port", "0") as (_, line), urllib.request.urlopen(f"{address(line)}/__sandbox") as reply:
        assert reply.read() == b'{"sandbox":true}'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_though_a_request_hangs(number: signal.Signals) -> None:
    with running(*MODULE, "--port", "0") as (process, line):
        host, port = address(line).removeprefix("http://").split(":")
        urllib.request.urlopen(f"{address(line)}/__faults", data=b'{"mode": "hang"}').close()
        with socket.create_connection((host, int(port))) as wire:
            wire.sendall(b"GET /fineract-provider/api/v1/clients HTTP/1.1\r\nHost: x\r\n\r\n")
            process.send_signal(number)

            assert process.wait(20) == 0


@pytest.mark.parametrize("command", [MODULE, MANAGE], ids=["module", "manage"])
def test_a_port_that_is_taken_is_said_clearly(command: tuple[str, ...]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = subprocess.run([*command, "--port", str(port)], cwd=ROOT, capture_output=True, text=True, env=BARE)

    assert ended.returncode == 1
    assert f"127.0.0.1:{port}: the port is in use; choose another one with --port" in ended.stderr


def test_it_dies_with_a_parent_that_is_killed() -> None:
    start = f"import subprocess; subprocess.run({[*MODULE, '--port', '0', '--die-with-parent']!r})"
    with running(sys.executable, "-c", start) as (parent, line):
        wire = socket.create_connection(("127.0.0.1", int(address(line).rsplit(":", 1)[1])), timeout=5)
        parent.kill()
        with wire, contextlib.suppress(ConnectionResetError):  # which is an end as well
            assert wire.recv(1) == b""


def test_a_parent_that_is_gone_already_is_noticed() -> None:
    ended = subprocess.run(
        [*MODULE, "--port", "0", "--die-with-parent", "1"], cwd=ROOT, capture_output=True, timeout=10
    )

    assert (ended.returncode, ended.stdout) == (0, b"")


def test_it_needs_only_the_standard_library() -> None:
    code = "import sys, mifos_gateway.sandbox.server; print({'django', 'requests', 'breaker'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert ended.stdout == "set()\n"
