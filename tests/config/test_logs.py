"""The log: what a line looks like, and that it never holds up or fails a call."""

import json
import logging
import logging.config
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from config import logs
from mifos_gateway import request_id


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Reads what the writer has written so far."""
    reading, writing = os.pipe()
    writer = logs.Writer(writing)
    monkeypatch.setattr(logs, "writer", writer)

    def read() -> list[str]:
        writer.flush(5)
        return os.read(reading, 65536).decode().splitlines()

    yield read
    os.close(reading)
    os.close(writing)


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Tells one line through a handler as configured, without touching the run's own logging."""

    def tell_one(message: object, *args: object, style: str = "plain", error: bool = False, **extra: object) -> None:
        handler = logs.StderrHandler()
        handler.addFilter(logs.RequestIdFilter())
        row = logs.dict_config(style, "INFO")["formatters"][style]
        make = dict(row)
        style_class = make.pop("()")
        fmt = make.pop("format")
        handler.setFormatter(style_class(fmt, **make))
        caught = (ValueError, ValueError("why"), None) if error else None
        record = logging.LogRecord("gateway.test", logging.INFO, __file__, 1, message, args, caught)
        vars(record).update(extra)
        handler.handle(record)

    return tell_one


def test_a_plain_line_holds_time_level_process_request_and_logger(lines, tell):
    token = request_id.current.set("request-7")
    try:
        tell("said %s", "it")
    finally:
        request_id.current.reset(token)

    (line,) = lines()
    assert line.endswith(f"Z INFO [{os.getpid()}] [request-7] gateway.test: said it")


def test_a_json_line_holds_the_same_and_what_was_added(lines, tell):
    tell("said it", style="json", consumer="bank")

    (line,) = lines()
    found = json.loads(line)
    assert {name: found[name] for name in ("level", "logger", "requestId", "message", "consumer")} == {
        "level": "INFO",
        "logger": "gateway.test",
        "requestId": "-",
        "message": "said it",
        "consumer": "bank",
    }


def test_an_exception_stays_within_its_json_line(lines, tell):
    tell("bad", style="json", error=True)

    (line,) = lines()
    assert "ValueError: why" in json.loads(line)["exception"]


@pytest.mark.parametrize("style", ["plain", "json"])
@pytest.mark.parametrize("quote", ['"', "'", ""])
def test_no_line_holds_a_query(lines, tell, style, quote):
    tell(f"GET {quote}/clients?displayName=Amina&x=1{quote} refused", style=style)

    (line,) = lines()
    assert "Amina" not in line
    assert "refused" in (json.loads(line)["message"] if style == "json" else line)


def test_a_question_is_no_query(lines, tell):
    tell("is it down? perhaps")

    assert lines()[0].endswith("is it down? perhaps")


def test_a_line_that_cannot_be_formatted_is_lost_without_an_error(lines, tell):
    tell("%d", "not a number")
    tell("next")

    assert len(lines()) == 1


@pytest.fixture
def stuck() -> tuple[logs.Writer, int]:
    """A writer before a pipe that is full and that nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    return logs.Writer(writing, lines_at_most=10), reading


def says(reading: int, text: str) -> bool:
    """Whether it comes within ten seconds."""
    read, ends = "", time.monotonic() + 10
    while text not in read and time.monotonic() < ends:
        with suppress(BlockingIOError):
            read += os.read(reading, 65536).decode()
        time.sleep(0.005)
    return text in read


def test_a_blocked_log_holds_up_nobody_and_says_how_many_lines_it_lost(stuck):
    writer, reading = stuck
    began = time.monotonic()
    for number in range(1000):
        writer.write(f"line {number}")
    took = time.monotonic() - began
    os.set_blocking(reading, False)

    assert took < 10
    assert says(reading, "log lines were dropped because nobody read them")


def test_lines_that_come_together_leave_in_one_piece(monkeypatch):
    monkeypatch.setattr(logs, "GATHER_SECONDS", 2.0)
    pieces: list[bytes] = []
    writer = logs.Writer()
    monkeypatch.setattr(writer, "_write", pieces.append)

    for number in range(50):
        writer.write(f"line {number}")
    writer.flush(5)

    assert pieces == [b"".join(b"line %d\n" % number for number in range(50))]


def test_a_closed_log_fails_nobody():
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    writer = logs.Writer(writing)

    writer.write("lost")
    writer.flush(5)

    assert not writer.lines


def test_after_a_fork_the_child_writes_its_own_lines_only(lines):
    writer = logs.writer
    writer.lines.append("the parent's")
    pid = os.fork()
    if not pid:
        writer.after_fork()
        writer.write("the child's")
        writer.flush(5)
        os._exit(0)
    os.waitpid(pid, 0)
    writer.lines.clear()

    assert lines() == ["the child's"]


def test_gunicorn_s_own_access_log_is_off():
    row = logs.dict_config("plain", "INFO")["loggers"]["gunicorn.access"]

    assert row == {"handlers": ["nowhere"], "propagate": False}


@pytest.mark.parametrize("style", ["plain", "json"])
def test_the_configuration_is_one_that_python_takes(style):
    # In a process of its own, since it would change this one's.
    pid = os.fork()
    if not pid:
        try:
            logging.config.dictConfig(logs.dict_config(style, "DEBUG"))
        except BaseException:  # whatever it is, the parent must hear of it
            os._exit(1)
        os._exit(0)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
