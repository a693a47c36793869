"""The long profile of the model: python -m tests.engine.model [--steps N] [--seconds N] [--seed N]

Exits with 1 and the shrunk counter-example when the engine strays from the reference, and with 2 when the seconds were
over before so many steps were made.
"""

from __future__ import annotations

import argparse
import multiprocessing
import secrets
import sys
import time
import traceback
from collections import Counter
from typing import Any

from hypothesis import seed
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.model.schedules import Schedule, profile

SCHEDULES = 200
"""How many are run from one seed."""

Report = tuple[int, Counter[str], str]
"""Steps, what happened in them, and the counter-example with its seed."""


def run(first_seed: int, steps: int, seconds: float, reports: Any) -> None:
    """Seed after seed, until there were enough steps or a counter-example."""
    ends, number, found = time.monotonic() + seconds, first_seed, ""
    while not found and Schedule.steps < steps and time.monotonic() < ends:
        try:
            run_state_machine_as_test(seed(number)(Schedule), settings=profile(schedules=SCHEDULES))
        except Exception:
            found = f"seed {number}:\n{traceback.format_exc()}"
        number += 1
    reports.put((Schedule.steps, Schedule.seen, found))


def gathered(options: argparse.Namespace) -> list[Report]:
    """What both cores found."""
    reports: Any = multiprocessing.Queue()
    share = -(-options.steps // options.processes)
    runs = [
        multiprocessing.Process(target=run, args=(options.seed + 1_000_000 * core, share, options.seconds, reports))
        for core in range(options.processes)
    ]
    for one in runs:
        one.start()
    found = [reports.get() for _ in runs]
    for one in runs:
        one.join()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="make prove", description=__doc__)
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--seconds", type=float, default=900, help="no new seed is begun after so many")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    began, reports = time.monotonic(), gathered(options)
    for _, _, found in reports:
        if found:
            print(found)
    seen: Counter[str] = sum((seen for _, seen, _ in reports), Counter())
    for what, times in sorted(seen.items()):
        print(f"{times:>9,}  {what}")
    steps = sum(steps for steps, _, _ in reports)
    print(f"{steps:,} steps in {time.monotonic() - began:.0f} s")
    if any(found for _, _, found in reports):
        return 1
    if steps < options.steps:
        print(f"cut short by --seconds {options.seconds:g}: {options.steps:,} steps were asked for")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
