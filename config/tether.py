"""Ties a process to its parent: `python tether.py PARENT PROGRAM ARGUMENT...` runs one that dies when that does.

Even when the parent is killed with SIGKILL, and nobody is left to clean up. On Linux the kernel sees to it, and
this process becomes the program. Elsewhere it stays, watches, and passes signals on.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from typing import NoReturn

PR_SET_PDEATHSIG = 1
WITH_PARENT = "MIFOS_GATEWAY_DIES_WITH_PARENT"  # in a worker's environment: of the development run
WATCH_SECONDS = 0.2


def die_with(parent: int, by: int = signal.SIGKILL) -> bool:
    """Asks the kernel to send this process `by` when its parent ends; False where the kernel can't.

    Call it from the main thread, in a process that the parent's main thread started: the kernel means threads.
    """
    if not sys.platform.startswith("linux"):
        return False
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, by, 0, 0, 0)
    if os.getppid() != parent:  # it went before it was asked
        os.kill(os.getpid(), by)
    return True


def main(parent: int, command: list[str]) -> NoReturn:
    if die_with(parent):
        os.execvp(command[0], command)  # noqa: S606 - what we were asked to run
    child = subprocess.Popen(command)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, frame: child.send_signal(received))
    while child.poll() is None:
        if os.getppid() != parent:
            child.kill()
        time.sleep(WATCH_SECONDS)
    sys.exit(child.returncode if child.returncode >= 0 else 128 - child.returncode)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
