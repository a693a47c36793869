"""What a log line may tell: never a query, body, token, password or personal data, whoever speaks.

Our own lines are written so. gunicorn quotes the header that it cannot parse and the path that it fails at, Django the
path, the host or the origin that it refuses: of theirs the kind of error stays, and where in the code it came from.
"""

import copy
import logging
import re
import sys

OURS = ("breaker", "config", "gateway", "mifos_gateway")
# What gunicorn says of its processes and not of a request: there the message of the error is what helps.
OF_PROCESSES = (
    "Exception in worker process",
    "Exception during worker exit",
    "Unhandled exception in main loop",
    # At the start, of our own HOST and PORT.
    "Connection in use: ",
    "Invalid address: ",
    "connection to ",
    "Can't connect to ",
    # At an end that was not asked for.
    "Shutting down: ",
    "Reason: ",
)
QUERY = re.compile(r"(?<=[\w/%.~:-])\?[^\s\"'<>`\\]*[^\s\"'<>`\\.,;:!?)\]}]")


class Withheld(Exception):
    """Stands in a traceback for an error whose own message may quote what a caller sent."""


def discreet(record: logging.LogRecord) -> logging.LogRecord:
    """The record as it may be told; another one where something has to go, since others may have use for this one."""
    if record.name.partition(".")[0] in OURS:
        return record
    if record.name.startswith("gunicorn"):
        return _of_gunicorn(record)
    if record.name.startswith(("django.request", "django.security")):
        status = getattr(record, "status_code", None) or "no answer"
        return _retold(record, f"A request is refused or failed: {_kind(record)} ({status})")
    return _retold(record, record.getMessage()) if record.exc_info else record


def without_queries(line: str) -> str:
    return QUERY.sub("?...", line) if "?" in line else line


def _of_gunicorn(record: logging.LogRecord) -> logging.LogRecord:
    error = (record.exc_info or sys.exc_info())[0]  # it quotes an error that it is handling without handing it over
    if record.levelno < logging.WARNING or error is None or str(record.msg).startswith(OF_PROCESSES):
        return record
    said = "Error handling a request" if record.exc_info else "Invalid request"
    return _retold(record, f"{said}: {error.__name__}")


def _kind(record: logging.LogRecord) -> str:
    """The error's class; where there is none Django's logger is named by what it refused, such as csrf."""
    error = record.exc_info[0] if record.exc_info else None
    return error.__name__ if error else record.name.rpartition(".")[2]


def _retold(record: logging.LogRecord, message: str) -> logging.LogRecord:
    told = copy.copy(record)
    told.msg, told.args, told.exc_text = message, None, None
    vars(told).pop("request", None)  # Django's addition, which a JSON line would show with its path
    if record.exc_info and record.exc_info[0]:
        kind, _, frames = record.exc_info
        told.exc_info = (Withheld, Withheld(kind.__name__), frames)
    return told
