"""Callers that press gateways, from threads of this process, and what each of them got."""

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.acceptance.gateway import Gateway
from tests.programs import wait_for

PATIENCE = 60.0
NO_ANSWER = 0


@dataclass(frozen=True)
class Got:
    """One answer; `status` is NO_ANSWER where the connection broke instead, and `body` says how."""

    status: int
    seconds: float
    at: float
    """time.time() when it was there."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of the gateway's own errors; "" for what MIFOS said."""
        return self.headers.get("x-gateway-error", "")


def get(gateway: Gateway, path: str, **headers: str) -> Got:
    """Any address of the gateway."""
    return ask(gateway, "GET", path, headers)


def call(
    gateway: Gateway,
    path: str = "clients",
    *,
    user: str = "maker",
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Got:
    """Through to MIFOS, on a connection of its own, so that any worker may take it."""
    url = f"/api/v1/mifos/{user}/{path}"
    return ask(gateway, method, url, {"Authorization": f"Token {gateway.token}", **(headers or {})}, body)


def ask(gateway: Gateway, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Got:
    """Whatever the gateway has, with these headers alone."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, {"Connection": "close", **headers})
        answer = connection.getresponse()
        body, status = answer.read(), answer.status
        got = {name.lower(): value for name, value in answer.getheaders()}
    except (OSError, http.client.HTTPException) as error:
        body, status, got = repr(error).encode(), NO_ANSWER, {}
    finally:
        connection.close()
    return Got(status, time.monotonic() - began, time.time(), got, body)


def press(gateways: Sequence[Gateway], times: int, path: str = "clients") -> "Crowd":
    """So many callers at the same moment, over the gateways in turn."""
    return Crowd(gateways, times, path)


class Crowd:
    """Callers that came together; `answers` are those that have gone."""

    def __init__(self, gateways: Sequence[Gateway], times: int, path: str) -> None:
        self._threads = ThreadPoolExecutor(times)
        start = threading.Barrier(times)

        def once(gateway: Gateway) -> Got:
            start.wait()
            return call(gateway, path)

        turns = itertools.islice(itertools.cycle(gateways), times)
        self._calls: list[Future[Got]] = [self._threads.submit(once, gateway) for gateway in turns]

    @property
    def answers(self) -> list[Got]:
        return [each.result() for each in self._calls if each.done()]

    def all(self) -> list[Got]:
        self._threads.shutdown()
        return self.answers


class Load:
    """`with Load(gateways) as load:` presses until the end; what was got stands in `load.answers`."""

    def __init__(self, gateways: Sequence[Gateway], *, threads: int = 4, pause: float = 0.01) -> None:
        self._gateways, self._pause = gateways, pause
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]
        self.answers: list[Got] = []

    def _run(self, number: int) -> None:
        turns = itertools.cycle(
            self._gateways[number % len(self._gateways) :] + self._gateways[: number % len(self._gateways)]
        )
        while not self._stopped.wait(self._pause):
            self.answers.append(call(next(turns)))

    def more(self, count: int = 40) -> None:
        """Wait for so many more answers."""
        wanted = len(self.answers) + count
        wait_for(lambda: len(self.answers) >= wanted, f"{count} more answers")

    @property
    def broken(self) -> list[Got]:
        return [got for got in self.answers if got.status == NO_ANSWER]

    @property
    def statuses(self) -> Counter[int]:
        return Counter(got.status for got in self.answers)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
