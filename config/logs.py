"""How log lines look, and how they leave the process without ever holding up a call.

A handler turns a record into a line at once and leaves it with the process's `Writer`, whose thread alone
writes to standard error. When nobody reads there, lines are dropped and counted; no caller waits.
"""

import atexit
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from config.discretion import discreet, without_queries

STDERR = 2
LINES_AT_MOST = 10_000
FLUSH_SECONDS = 0.5
GATHER_SECONDS = 0.005
"""So long the writer lets lines gather: woken for each, it would take the interpreter from the callers each time."""


class Writer:
    """One per process: a bounded queue before standard error, with a thread that starts at the first line."""

    def __init__(self, descriptor: int = STDERR, lines_at_most: int = LINES_AT_MOST) -> None:
        self.descriptor = descriptor
        self.lines_at_most = lines_at_most
        self.after_fork()

    def after_fork(self) -> None:
        """A child has its own thread and nothing of its parent's lines, which the parent writes itself."""
        self.lines: deque[str] = deque()
        self.dropped = 0
        self.waiting = threading.Event()
        self.starting = threading.Lock()
        self.thread: threading.Thread | None = None

    def write(self, line: str) -> None:
        if len(self.lines) >= self.lines_at_most:
            self.dropped += 1
            return
        self.lines.append(line)
        if not self.waiting.is_set():  # the writer looks once more after it has cleared this
            self.waiting.set()
        if self.thread is None or not self.thread.is_alive():
            self._start()

    def _start(self) -> None:
        with self.starting:
            if self.thread is None or not self.thread.is_alive():
                thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
                thread.start()
                self.thread = thread

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Waits until all is written, or no longer than that."""
        deadline = time.monotonic() + seconds
        while (self.lines or self.waiting.is_set()) and time.monotonic() < deadline and self.thread:
            time.sleep(0.005)

    def _run(self) -> None:
        while True:
            self.waiting.wait()
            time.sleep(GATHER_SECONDS)
            while self.lines:
                self._write(self._next())
            self.waiting.clear()
            if self.lines:  # one came between the last look and the clearing
                self.waiting.set()

    def _next(self) -> bytes:
        """Some lines in one piece; they leave the queue only here, so that a flush waits for the last."""
        taken = [self.lines.popleft() for _ in range(min(len(self.lines), 100))]
        if self.dropped and len(self.lines) < self.lines_at_most // 2:
            taken.append(f"{self.dropped} log lines were dropped because nobody read them")
            self.dropped = 0
        return ("\n".join(taken) + "\n").encode("utf-8", "backslashreplace")

    def _write(self, piece: bytes) -> None:
        # os.write and not sys.stderr: a thread stuck in that one's lock would keep the interpreter from ending.
        while piece:
            try:
                piece = piece[os.write(self.descriptor, piece) :]
            except BlockingIOError:
                select.select([], [self.descriptor], [], 1)
            except OSError:
                return  # closed or broken: there is nowhere left to say so


writer = Writer()
os.register_at_fork(after_in_child=writer.after_fork)
atexit.register(writer.flush)
logging.raiseExceptions = False  # a record that can't be told is lost; the call that told it goes on


class StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            writer.write(without_queries(self.format(discreet(record))))
        except Exception:
            self.handleError(record)


class RequestIdFilter(logging.Filter):
    """Adds the id of the request that the line belongs to, `-` outside of one; and of its trace, where there is one."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not getattr(record, "request_id", None):
            record.request_id = _request_id()
        if (ids := getattr(sys.modules.get("mifos_gateway.otel"), "ids", None)) is not None:
            vars(record).update(ids())
        return True


def _request_id() -> str:
    # Looked up late: the log is configured before the apps are there, and works without them.
    module = sys.modules.get("mifos_gateway.request_id")
    current = getattr(module, "current", None)
    return (current.get(None) or "-") if isinstance(current, ContextVar) else "-"


class UnforeseenFilter(logging.Filter):
    """Of Django's lines about answers only those with a traceback: `gateway.access` has a line for every call."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.exc_info is not None


class PlainFormatter(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return _timestamp(record)


class JsonLineFormatter(JsonFormatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return _timestamp(record)


def _timestamp(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def level_of_others(level: str) -> str:
    """What others say at DEBUG holds paths with queries, SQL, and gunicorn's whole configuration."""
    return "INFO" if level == "DEBUG" else level


def dict_config(style: str, level: str) -> dict[str, Any]:
    """The `logging.config.dictConfig` of Django and gunicorn alike; all goes to the root's one handler."""
    others = level_of_others(level)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": RequestIdFilter}, "unforeseen": {"()": UnforeseenFilter}},
        "formatters": {
            "plain": {
                "()": PlainFormatter,
                "format": "%(asctime)s %(levelname)s [%(process)d] [%(request_id)s] %(name)s: %(message)s",
            },
            "json": {
                "()": JsonLineFormatter,
                "format": "%(asctime)s %(levelname)s %(name)s %(process)d %(request_id)s %(message)s",
                "rename_fields": {
                    "asctime": "timestamp",
                    "levelname": "level",
                    "name": "logger",
                    "request_id": "requestId",
                    "exc_info": "exception",
                },
            },
        },
        "handlers": {
            "stderr": {"()": StderrHandler, "formatter": style, "filters": ["request_id"]},
            "nowhere": {"class": "logging.NullHandler"},
        },
        "root": {"handlers": ["stderr"], "level": others},
        "loggers": {
            **{name: {"level": level} for name in ("breaker", "mifos_gateway", "gateway", "config")},
            "axes": {"level": "WARNING"},  # below that it tells each login's housekeeping
            # Both bring handlers of their own, which these empty lists remove.
            "django": {"handlers": [], "propagate": True, "level": others},
            "django.request": {"filters": ["unforeseen"]},
            # With its own level, since gunicorn sets one that is not the root's.
            "gunicorn.error": {"handlers": [], "propagate": True, "level": others},
            # `gateway.access` tells each call, without its query; these two would show it. Without any handler
            # Python itself would write their warnings.
            "gunicorn.access": {"handlers": ["nowhere"], "propagate": False},
            "django.server": {"handlers": ["nowhere"], "propagate": False},
        },
    }
