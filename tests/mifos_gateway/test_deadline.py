"""The wall-clock limit holds over every part of a call, exact to 100 ms, and the connection is closed then."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from mifos_gateway.client import MifosClient
from mifos_gateway.deadline import Call, DeadlinePassed, Origin, Resolver, connect
from mifos_gateway.errors import MifosTimeout, MifosUnavailable
from tests.mifos_gateway.peer import OK, Connection, Peer, Script, answer, config, serving

LIMIT = 0.3
SLACK = 4.0
"""What a starved machine may add; a limit that is not kept is later than that, and the overshoot of one that is kept is
measured by `make bench`."""
HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LARGE = b"x" * 64_000_000  # more than two kernels' buffers hold


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@contextlib.contextmanager
def times_out(*, sent: object, within: float = LIMIT) -> Iterator[None]:
    started = time.monotonic()
    with pytest.raises(MifosTimeout) as caught:
        yield
    assert within <= time.monotonic() - started < within + SLACK
    assert caught.value.sent == sent


def heard_the_end(peer: Peer, started: float) -> bool:
    return peer.hung_up.wait(SLACK) and peer.hung_up_at - started < LIMIT + SLACK


def drips(data: bytes, *, after: bytes = b"", size: int = 1) -> Script:
    def script(connection: Connection) -> None:
        connection.request()
        if after:
            connection.send(after)
        connection.drip(data, size)
        connection.stay()

    return script


def silence(connection: Connection) -> None:
    connection.request()
    connection.stay()


CHUNKS = b"1\r\nx\r\n" * 200
WAYS_TO_DRIP = {
    "nothing at all": silence,
    "the status line": drips(HEADERS),
    "the headers": drips(b"X-Slow: " + b"x" * 500, after=HEADERS),
    "an endless row of informational answers": drips(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, size=28),
    "a body of known length": drips(b"x" * 100, after=HEADERS + b"Content-Length: 100\r\n\r\n"),
    "a body that ends with the connection": drips(b"x" * 100, after=HEADERS + b"\r\n"),
    "a chunked body": drips(CHUNKS, after=HEADERS + b"Transfer-Encoding: chunked\r\n\r\n"),
    "whole chunks": drips(CHUNKS, after=HEADERS + b"Transfer-Encoding: chunked\r\n\r\n", size=6),
    "endless trailers": drips(b"T: t\r\n" * 99, after=HEADERS + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", size=6),
    "a compressed body": drips(
        gzip.compress(os.urandom(100)), after=HEADERS + b"Content-Encoding: gzip\r\nContent-Length: 123\r\n\r\n"
    ),
}


@pytest.mark.parametrize("way", WAYS_TO_DRIP)
def test_a_peer_that_drips_meets_the_limit(way: str) -> None:
    with serving(WAYS_TO_DRIP[way]) as (peer, client):
        started = time.monotonic()
        with times_out(sent="unknown"):
            client.send("maker", "GET", "clients", timeout=LIMIT)
        assert heard_the_end(peer, started)


@pytest.mark.parametrize("way", WAYS_TO_DRIP)
def test_a_peer_that_drips_over_tls_meets_the_limit(way: str, tls: ssl.SSLContext, ca_bundle: Path) -> None:
    with serving(WAYS_TO_DRIP[way], tls=tls, ca_bundle=str(ca_bundle)) as (peer, client):
        started = time.monotonic()
        with times_out(sent="unknown"):
            client.send("maker", "GET", "clients", timeout=LIMIT)
        assert heard_the_end(peer, started)


def test_a_kept_connection_is_bounded_by_the_limit_of_each_call() -> None:
    def script(connection: Connection) -> None:
        connection.request()
        connection.send(OK)
        silence(connection)

    with serving(script) as (peer, client):
        client.send("maker", "GET", "clients", timeout=5)
        with times_out(sent="unknown"):
            client.send("maker", "GET", "clients", timeout=LIMIT)
        assert peer.connections == 1


def reads_nothing(connection: Connection) -> None:
    connection.peer.stopped.wait()


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_peer_that_does_not_read_the_body_meets_the_limit(
    encrypted: bool, tls: ssl.SSLContext, ca_bundle: Path
) -> None:
    with (
        serving(reads_nothing, tls=tls if encrypted else None, ca_bundle=str(ca_bundle)) as (_, client),
        times_out(sent="unknown"),
    ):
        client.send("maker", "POST", "clients", body=LARGE, timeout=LIMIT)


def reads_slowly(connection: Connection) -> None:
    while connection.sock.recv(65536):
        connection.peer.stopped.wait(0.02)


@pytest.mark.parametrize("then", [reads_nothing, reads_slowly])
def test_a_body_on_a_kept_connection_is_bounded_by_the_limit_of_its_call(then: Script) -> None:
    def script(connection: Connection) -> None:
        connection.request()
        connection.send(OK)
        then(connection)

    with serving(script) as (peer, client):
        client.send("maker", "GET", "clients", timeout=5)
        with times_out(sent="unknown"):
            client.send("maker", "POST", "clients", body=LARGE, timeout=LIMIT)
        assert peer.connections == 1


def test_what_a_peer_has_not_read_at_the_limit_is_taken_back() -> None:
    ends: list[str] = []
    passed = threading.Event()

    def reads_late(connection: Connection) -> None:
        passed.wait(2 * SLACK)
        try:
            while connection.sock.recv(1 << 20):
                pass
            ends.append("all that was sent has come")
        except ConnectionResetError:
            ends.append("reset")
        connection.note_hang_up()

    with serving(reads_late) as (peer, client):
        with times_out(sent="unknown"):
            client.send("maker", "POST", "clients", body=LARGE, timeout=LIMIT)
        passed.set()
        assert peer.hung_up.wait(SLACK)
    assert ends == ["reset"]


def test_a_peer_that_never_starts_tls_meets_the_limit(ca_bundle: Path) -> None:
    with serving(reads_nothing) as (peer, _):
        client = MifosClient(config(peer.url.replace("http:", "https:"), ca_bundle=str(ca_bundle)))
        with times_out(sent=False):
            client.send("maker", "GET", "clients", timeout=LIMIT)


def test_a_peer_that_drips_its_handshake_meets_the_limit(ca_bundle: Path) -> None:
    def script(connection: Connection) -> None:
        connection.sock.recv(65536)
        connection.send(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03")
        connection.drip(b"\x00" * 100)

    with serving(script) as (peer, _):
        client = MifosClient(config(peer.url.replace("http:", "https:"), ca_bundle=str(ca_bundle)))
        with times_out(sent=False):
            client.send("maker", "GET", "clients", timeout=LIMIT)


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that neither accepts nor refuses: its queue is full."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = []
    for _ in range(3):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    yield listener.getsockname()[1]
    for sock in (*fillers, listener):
        sock.close()


def test_a_port_that_swallows_connections_meets_the_limit(black_hole: int) -> None:
    client = MifosClient(config(f"http://127.0.0.1:{black_hole}"))
    with times_out(sent=False):
        client.send("maker", "GET", "clients", timeout=LIMIT)


def names(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_several_dead_addresses_share_the_limit(monkeypatch: pytest.MonkeyPatch, black_hole: int) -> None:
    names(monkeypatch, *[black_hole] * 20)
    client = MifosClient(config("http://mifos.example"))
    with times_out(sent=False):
        client.send("maker", "GET", "clients", timeout=LIMIT)


def test_a_dead_address_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch, black_hole: int) -> None:
    with serving(answer()) as (peer, _):
        names(monkeypatch, black_hole, peer.port)
        client = MifosClient(config("http://mifos.example"))
        assert client.send("maker", "GET", "clients", timeout=SLACK).status_code == 200
        client.close()


def test_a_name_without_addresses_is_unavailable() -> None:
    call = Call(LIMIT, room=0, monotonic=time.monotonic)
    with pytest.raises(OSError, match="no address"):
        connect([], call)


@pytest.fixture
def hanging_look_ups(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    asked: list[str] = []
    release = threading.Event()

    def getaddrinfo(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        release.wait()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield asked
    release.set()
    for thread in threading.enumerate():
        if thread.name == "mifos-look-up":
            thread.join(SLACK)
            assert not thread.is_alive()


@pytest.mark.usefixtures("hanging_look_ups")
def test_a_hanging_name_look_up_meets_the_limit() -> None:
    client = MifosClient(config("http://mifos.example"))
    with times_out(sent=False):
        client.send("maker", "GET", "clients", timeout=LIMIT)


def test_only_so_many_look_ups_hang_at_once(hanging_look_ups: list[str]) -> None:
    resolver = Resolver(at_once=2)
    for _ in range(4):
        with pytest.raises(DeadlinePassed):
            resolver.look_up(Origin("http", "mifos.example", 80), Call(0.01, room=0, monotonic=time.monotonic))
    assert len(hanging_look_ups) == 2


def test_a_look_up_that_finds_no_thread_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    client = MifosClient(config("http://mifos.example"))
    with pytest.raises(MifosUnavailable) as caught:
        client.send("maker", "GET", "clients", timeout=LIMIT)
    assert caught.value.sent is False


def test_a_failed_look_up_is_unavailable_and_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    client = MifosClient(config("http://mifos.example"))
    with pytest.raises(MifosUnavailable, match=r"mifos\.example.*look-up failed") as caught:
        client.send("maker", "GET", "clients", timeout=SLACK)
    assert caught.value.sent is False


def test_an_address_is_not_looked_up_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answer()) as (_, client):
        monkeypatch.setattr(Resolver, "_ask", None)
        assert client.send("maker", "GET", "clients", timeout=SLACK).status_code == 200


def test_no_time_at_all_sends_nothing() -> None:
    with serving(answer()) as (peer, client):
        with pytest.raises(MifosTimeout) as caught:
            client.send("maker", "POST", "clients", body=b"{}", timeout=0)
        assert (caught.value.sent, peer.connections) == (False, 0)


def test_many_waiting_callers_all_meet_the_limit() -> None:
    late: list[float] = []

    def press(client: MifosClient) -> None:
        started = time.monotonic()
        with pytest.raises(MifosTimeout):
            client.send("maker", "GET", "clients", timeout=LIMIT)
        late.append(time.monotonic() - started - LIMIT)

    with serving(silence, pool_size=1) as (_, client):
        callers = [threading.Thread(target=press, args=(client,)) for _ in range(20)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert len(late) == 20
    assert max(late) < SLACK


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
@pytest.mark.parametrize("script", [silence, WAYS_TO_DRIP["a chunked body"], answer(b"garbage"), answer(OK[:-1])])
def test_a_failed_call_leaves_no_socket_and_no_thread(script: Callable[[Connection], None]) -> None:
    threads, files = set(threading.enumerate()), _open_files()
    with serving(script) as (_, client):
        for _ in range(3):
            with pytest.raises((MifosTimeout, MifosUnavailable)):
                client.send("maker", "GET", "clients", timeout=0.05)
    # Those of earlier tests may end meanwhile.
    assert (set(threading.enumerate()) - threads, _open_files() - files) == (set(), set())


def _open_files() -> set[str]:
    """What each is; a socket has a number that no other gets while the machine runs."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return found
