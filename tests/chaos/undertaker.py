"""Ends the processes of a run when that has ended, however it did: by itself, by Ctrl-C, by SIGKILL.

A process of its own that is told of each other one on its standard input, which closes when the run is over.
"""

import contextlib
import signal
import subprocess
import sys

import psutil


class Undertaker:
    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, text=True, bufsize=1)

    def watch(self, pid: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{pid} {psutil.Process(pid).create_time()}\n")

    def close(self) -> None:
        """Whoever is there is killed now."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they are for the run, which then hangs up
        signal.signal(number, signal.SIG_IGN)
    watched = {tuple(line.split()) for line in sys.stdin}
    for pid, created in watched:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(int(pid))
            if str(process.create_time()) == created:  # and not a stranger with the same number
                process.kill()


if __name__ == "__main__":
    main()
