"""The sandbox as a process of its own: its arguments, and how it ends."""

import argparse
import ctypes
import os
import signal
import sys
import threading
import time
from typing import NoReturn

ENDINGS = (signal.SIGTERM, signal.SIGINT)
PR_SET_PDEATHSIG = 1
PARENT_CHECK_SECONDS = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=_port, required=True, help="0 picks a free one and prints it")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument(
        "--die-with-parent",
        nargs="?",
        type=int,
        const=0,
        metavar="PID",
        help="end when the process that started this one ends; with its PID also when it ended before this one looked",
    )


def hold_signals() -> None:
    """Keeps SIGTERM and SIGINT for `exit_on_signal`; call it before any thread starts, since threads inherit it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)


def exit_on_signal() -> NoReturn:
    """Waits for SIGTERM or SIGINT and ends the process at once with 0.

    Not signal.pause(): a signal that comes just before it would be slept through.
    """
    signal.sigwait(ENDINGS)
    os._exit(0)  # not sys.exit: handlers that hang are not asked


def follow_parent(expected: int = 0) -> None:
    """Ties this process to its parent's life, even if that is killed.

    Linux sends the signal itself. It does so when the *thread* that started us ends, so start this from a main thread.
    """
    parent = expected or os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), name="sandbox-parent", daemon=True).start()
    if os.getppid() != parent:  # it ended before we asked
        os._exit(0)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(0)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, not {text!r}")
    return int(text)
