"""What a worker may have: no more threads, descriptors and memory at the end than at the start; and nothing remains."""

from tests.chaos.recording import Recording, Sample
from tests.chaos.rules import Found

MORE = 2
"""A thread that looks something up, or a connection to the database, may be there at one moment and not at another."""
MORE_BYTES = 16 * 2**20
"""What a worker may still take after its first quiet moment: threads' arenas, caches, counters of a long window. A leak
of a kilobyte a call would pass it in ten minutes."""
SETTLED = 10.0
"""Seconds of life before the first quiet moment that is compared with."""


def nothing_grows(recording: Recording) -> Found:
    for pid in recording.pids:
        samples = settled_samples(recording, pid)
        if len(samples) < 2:
            continue
        first, last = samples[0], samples[-1]
        if last.threads > first.threads + MORE:
            yield f"worker {pid} has {last.threads} threads instead of {first.threads}", last.at, (first, last)
        if last.sockets > first.sockets + MORE:
            yield f"worker {pid} has {last.sockets} descriptors instead of {first.sockets}", last.at, (first, last)
        if last.rss > first.rss + MORE_BYTES:
            yield f"worker {pid} has grown by {(last.rss - first.rss) >> 20} MiB", last.at, (first, last)
    for one in recording.samples:
        if one.idle > recording.idle_at_most:
            yield f"worker {one.pid} keeps {one.idle} connections to MIFOS", one.at, (one,)


def settled_samples(recording: Recording, pid: int) -> list[Sample]:
    born = next((one.at for one in recording.born if one.pid == pid), 0.0)
    return [one for one in recording.samples if one.pid == pid and one.at >= born + SETTLED]


def nobody_complains(recording: Recording) -> Found:
    for line in recording.complaints:
        yield "an error that nobody foresaw is in the log", float("inf"), (line,)


def nothing_is_left_behind(recording: Recording) -> Found:
    for process in recording.left:
        yield f"process {process} is there after the end", float("inf"), ()
