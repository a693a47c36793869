"""gunicorn's worker, that names the threads of its request pool for the kernel: so a sample can leave them out.

They come with the calls that run at once; all others must stay as many as they were.
"""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gunicorn.workers.gthread import ThreadWorker

POOLED = "request"


class Worker(ThreadWorker):  # type: ignore[misc]
    def get_thread_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=self.cfg.threads, initializer=_name)


def _name() -> None:
    with contextlib.suppress(OSError):
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(POOLED)


def other_threads(pid: int) -> int:
    """How many threads a worker has besides; 0 where the kernel doesn't say."""
    names = []
    for path in Path(f"/proc/{pid}/task").glob("*/comm"):
        with contextlib.suppress(OSError):
            names.append(path.read_text().strip())
    return sum(name != POOLED for name in names)
