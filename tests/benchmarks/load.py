"""Press an HTTP server over kept-alive connections, evenly spread over its workers.

One thread with epoll, since on few cores the load must cost little. Connections last for the whole run and are shared
out on purpose: gunicorn leaves it to chance which worker takes one, and with seven of eight in one worker it is the
GIL that is measured.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

TRIES = 500
GOOD = 200


@dataclass(frozen=True, kw_only=True)
class Pressed:
    """What one turn came to; times in seconds."""

    requests: int
    wall: float
    latencies: list[float]


def presser(
    port: int, request: bytes, connections: int, workers: Sequence[int], status: int = GOOD
) -> Generator[Any, Any, None]:
    """A role: opens its connections, and presses for as many seconds as it is told. Each answer has this status."""
    sockets = spread(port, request, connections, workers, status)
    poll = select.epoll()
    for number in sockets:
        poll.register(number, select.EPOLLIN)
    seconds = yield "ready"
    while seconds:
        seconds = yield _press(sockets, poll, request, seconds, status)


def _press(
    sockets: dict[int, socket.socket], poll: select.epoll, request: bytes, seconds: float, status: int
) -> Pressed:
    """Each connection sends its next request when the answer is there; ends when all answers are."""
    now, clock, latencies, sent_at = 0.0, time.perf_counter, [], {}
    began = clock()
    for number, sock in sockets.items():
        sent_at[number] = clock()
        sock.sendall(request)
    while sent_at:
        for number, _ in poll.poll(30):
            take_answer(sockets[number], status)
            now = clock()
            latencies.append(now - sent_at.pop(number))
            if now - began < seconds:
                sent_at[number] = now
                sockets[number].sendall(request)
    return Pressed(requests=len(latencies), wall=now - began, latencies=latencies)


def take_answer(sock: socket.socket, status: int = GOOD) -> None:
    answer = sock.recv(65536)
    if not answer.startswith(b"HTTP/1.1 %d " % status):
        raise AssertionError(f"a call went wrong: {answer[:500]!r}")
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
    while len(body) < length:
        body += sock.recv(65536)


def spread(
    port: int, request: bytes, connections: int, workers: Sequence[int], status: int = GOOD
) -> dict[int, socket.socket]:
    of_worker: dict[int, list[socket.socket]] = {pid: [] for pid in workers}
    share = -(-connections // len(workers))
    for _ in range(TRIES):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(request)
        take_answer(sock, status)
        held = of_worker[_holder(sock, workers)]
        if len(held) < share and sum(map(len, of_worker.values())) < connections:
            held.append(sock)
        else:
            sock.close()
        if sum(map(len, of_worker.values())) == connections:
            return {sock.fileno(): sock for held in of_worker.values() for sock in held}
    raise AssertionError(f"{TRIES} connections did not reach all workers")


def _holder(sock: socket.socket, workers: Sequence[int]) -> int:
    ours = sock.getsockname()
    for pid in workers:
        if any(ours == connection.raddr for connection in psutil.Process(pid).net_connections("tcp4")):
            return pid
    raise AssertionError("no worker holds this connection")
