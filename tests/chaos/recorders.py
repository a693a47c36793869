"""Those who write down while a run goes on: a canary, a reader of Redis's events; and the logs, read at the end."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import redis

from tests.chaos.recording import Alone, Born, Event, Recording, Served, Stall, Told
from tests.programs import RedisServer

STATES = {
    "Circuit breaker OPENED": "OPEN",
    "Circuit breaker CLOSED": "CLOSED",
    "Circuit breaker HALF-OPEN": "HALF_OPEN",
}
FORESEEN = ("Shared breaker state lost", "was sent SIGKILL", *STATES)


class Canary:
    """A thread that wants to wake every 5 ms, and writes down how late it was: what the machine does to any thread."""

    EVERY = 0.005
    WORTH_TELLING = 0.005

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.stalls: list[Stall] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canary")
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            due = self._clock() + self.EVERY
            time.sleep(self.EVERY)
            late = self._clock() - due
            if late > self.WORTH_TELLING:
                self.stalls.append(Stall(at=due, seconds=late))

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


class Queue:
    """A thread that asks the kernel every 0.1 s how long the workers' threads have waited for a processor: on a machine
    that has other things to do each waits whenever it gets the GIL, which no canary elsewhere sees."""

    EVERY = 0.1
    WORTH_TELLING = 0.002

    def __init__(self, masters: Sequence[int], clock: Callable[[], float]) -> None:
        self._masters, self._clock = masters, clock
        self.stalls: list[Stall] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue")
        self._thread.start()

    def _run(self) -> None:
        waited: dict[Path, int] = {}
        while not self._stopped.wait(self.EVERY):
            for pid in _children(self._masters):
                at, now = self._clock(), dict(_waited(pid))
                seconds = sum(max(0, each - waited.get(thread, each)) for thread, each in now.items()) / 1e9
                waited |= now
                if seconds > self.WORTH_TELLING:
                    self.stalls.append(Stall(at=at, seconds=seconds, pid=int(pid)))

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def _children(masters: Sequence[int]) -> Iterator[str]:
    for master in masters:
        with contextlib.suppress(OSError):
            yield from Path(f"/proc/{master}/task/{master}/children").read_text().split()


def _waited(pid: str) -> Iterator[tuple[Path, int]]:
    """Nanoseconds of each thread; of none where there is no such file."""
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            yield path, int(path.read_text().split()[1])


class Stream:
    """Reads each event as soon as Redis has it, and finds Redis again whenever it was away."""

    def __init__(self, server: RedisServer, key: str, since_start: Callable[[float], float]) -> None:
        self._server, self._key, self._since_start = server, key, since_start
        self._found: dict[str, dict[str, str]] = {}
        self._cursor = "0-0"
        self._taking = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events")
        self._thread.start()

    def _run(self) -> None:
        # No limit of its own: a paused Redis answers when it goes on, a killed one hangs up.
        with redis.Redis.from_url(self._server.url, decode_responses=True) as client:
            while not self._stopped.is_set():
                with contextlib.suppress(redis.RedisError):
                    for _, entries in client.xread({self._key: self._cursor}, block=100) or []:
                        self._take(entries)
                    continue
                time.sleep(0.01)

    def _take(self, entries: list[tuple[str, dict[str, str]]]) -> None:
        with self._taking:
            for entry, fields in entries:
                self._found[entry] = fields
                self._cursor = entry

    def flush(self) -> None:
        """FLUSHALL, with all events up to that very moment."""
        with redis.Redis.from_url(self._server.url, decode_responses=True) as client:
            asked = client.pipeline(transaction=True)
            asked.xrange(self._key)
            asked.flushall()
            self._take(asked.execute()[0])

    def events(self) -> list[Event]:
        return [self._event(entry, fields) for entry, fields in self._found.items()]

    def _event(self, entry: str, fields: dict[str, str]) -> Event:
        data, event = json.loads(fields["data"]), json.loads(fields["event"])
        return Event(
            entry=entry,
            id=data["id"],
            breaker=fields["name"],
            state=data["state"],
            at=self._since_start(int(fields["at"]) / 1000),
            since=self._since_start(data["since"] / 1000),
            transition=event.get("kind") == "transition",
            alone=bool(event.get("why", {}).get("alone")),
        )

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def read_log(recording: Recording, log: str, gateway: int, since_start: Callable[[float], float]) -> None:
    """Take in what a gateway's workers and their master have told."""
    lost: dict[int, float] = {}
    for text in log.splitlines():
        line = _parsed(text)
        at, pid, message = since_start(_moment(line)), int(line.get("process", 0)), str(line.get("message", ""))
        if line.get("logger") == "gateway.access":
            recording.served.append(Served(id=line["requestId"], pid=pid, at=at))
        elif state := next((state for start, state in STATES.items() if message.startswith(start)), None):
            breaker, alone = line["breaker"], bool(line.get("alone"))
            told = Told(id=line["generation"], breaker=breaker, state=state, pid=pid, at=at, alone=alone)
            recording.told.append(told)
        elif message.startswith("Shared breaker state lost"):
            lost[pid] = at
        elif message.startswith("Shared breaker state is back"):
            recording.alone.append(Alone(pid=pid, since=lost.pop(pid, at), until=at))
        elif born := re.match(r"Booting worker with pid: (\d+)", message):
            recording.born.append(Born(pid=int(born[1]), gateway=gateway, at=at))
        elif line.get("level") in ("ERROR", "CRITICAL", None) and not any(word in message for word in FORESEEN):
            recording.complaints.append(text)
    recording.alone += [Alone(pid=pid, since=at) for pid, at in lost.items()]


def _parsed(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        return {"message": text}
    return line if isinstance(line, dict) else {"message": text}


def _moment(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp() if "timestamp" in line else 0.0
