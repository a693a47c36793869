"""opossum in a Node process of its own, pressed like the others. Node has no threads: its calls overlap instead."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.contestants import OPOSSUM_FOLDER


class Node:
    def __init__(self) -> None:
        # It ends with its standard input, however this process ends.
        self._process = subprocess.Popen(
            ["node", "press.js"], cwd=OPOSSUM_FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def trip(self) -> None:
        if not self._ask({"trip": True})["opened"]:
            raise AssertionError("it does not open")

    def press(self, calls: int, *, at_once: int, slow: float) -> tuple[float, float, int]:
        """Seconds by the wall and of CPU, and how many calls were rejected."""
        answer = self._ask({"calls": calls, "atOnce": at_once, "slow": slow})
        return answer["wall"], answer["cpu"], answer["refused"]

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(timeout=5)


@contextlib.contextmanager
def node() -> Iterator[Node]:
    running = Node()
    try:
        yield running
    finally:
        running.end()
