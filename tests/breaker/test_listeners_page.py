"""docs/listeners.md: its examples run, and its table says what is sent."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from breaker import listeners, operations, signals
from breaker.engine.events import StoreBack, StoreLost
from breaker.registry import create_circuit_breaker
from breaker.signals import BreakerSignal
from breaker.testing import fail, rejected, signals_sent
from tests.breaker.conftest import House

PAGE = (Path(__file__).parents[2] / "docs" / "listeners.md").read_text("utf-8")
TEN_LINES, LISTENER = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMON = {"breaker", "labels", "at"}


class Chat:
    """A webhook that takes a post and answers when it is let."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.asked, self.answers = threading.Event(), threading.Event()
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                said = self.rfile.read(int(self.headers["Content-Length"]))
                chat.told.append(json.loads(said)["text"])
                chat.asked.set()
                chat.answers.wait(60)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Nobody reads it."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self._serving = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._serving.start()

    def close(self) -> None:
        self.answers.set()
        self.server.shutdown()
        self._serving.join()
        self.server.server_close()


@pytest.fixture
def chat() -> Iterator[Chat]:
    made = Chat()
    yield made
    made.close()


def test_the_ten_lines_are_no_more() -> None:
    assert len(TEN_LINES.splitlines()) <= 10


def test_the_ten_lines_tell_a_chat_and_delay_no_call(chat: Chat, settings: Any) -> None:
    settings.CHAT_WEBHOOK = chat.url
    names: dict[str, Any] = {}
    exec(TEN_LINES, names)
    try:
        breaker = create_circuit_breaker(name="payments").breaker
        fail(breaker, 5)
        assert rejected(breaker)
        assert chat.asked.wait(20)
        assert not signals_sent(0)  # the chat has not answered; the calls have returned
        chat.answers.set()
        assert signals_sent()
    finally:
        signals.state_changed.disconnect(names["tell_chat"])
    (told,) = chat.told
    assert re.fullmatch(r"payments: CLOSED -> OPEN at \d\d:\d\d:\d\d UTC", told)


def test_the_listener_hears_that_the_store_is_lost_and_back() -> None:
    alone = threading.Event()
    names: dict[str, Any] = {"alone": alone}
    exec(LISTENER, names)
    try:
        listeners.tell(StoreLost("cut"))
        assert alone.is_set()
        listeners.tell(StoreBack(1.0))
        assert not alone.is_set()
    finally:
        listeners.remove(names["note"])


@pytest.mark.django_db
def test_the_table_says_what_is_sent(house: House) -> None:
    sent: dict[str, set[str]] = {}
    named = {name: signal for name, signal in vars(signals).items() if isinstance(signal, BreakerSignal)}

    def keep(signal: BreakerSignal, sender: Any, **said: Any) -> None:
        (name,) = (name for name, one in named.items() if one is signal)
        sent.setdefault(name, set()).update(said)

    for signal in named.values():
        signal.connect(keep)
    try:
        breaker = create_circuit_breaker(name="payments").breaker
        fail(breaker, 5)
        assert rejected(breaker)
        operations.act(["payments"], "open", actor="ada", source="admin", reason="a test", for_seconds=1)
        assert signals_sent()
    finally:
        for signal in named.values():
            signal.disconnect(keep)
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", words)) | COMMON for name, words in rows} == sent
