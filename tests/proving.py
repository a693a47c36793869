"""The long profile of a model: seed after seed on every core, until there were enough steps or a counter-example."""

from __future__ import annotations

import argparse
import multiprocessing
import secrets
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import seed
from hypothesis.stateful import run_state_machine_as_test

SCHEDULES = 200
"""How many are run from one seed."""

Report = tuple[int, Counter[str], str]
"""Steps, what happened in them, and the counter-example with its seed."""


def main(
    schedule: Any,
    profile: Callable[..., Any],
    *,
    description: str,
    steps: int,
    seconds: float,
    prepare: Callable[[], Any] = lambda: None,
) -> int:
    """`schedule`: a RuleBasedStateMachine that counts `steps` and `seen`; `prepare` is called once in each process.

    Exits with 1 and the shrunk counter-example when a promise is broken, and with 2 when the seconds were over before
    so many steps were made.
    """
    parser = argparse.ArgumentParser(prog="make prove", description=description)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--seconds", type=float, default=seconds, help="no new seed is begun after so many")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    print(f"{description}\nseed {options.seed}", flush=True)

    def run(first_seed: int, share: int, reports: Any) -> None:
        prepare()
        ends, number, found = time.monotonic() + options.seconds, first_seed, ""
        while not found and schedule.steps < share and time.monotonic() < ends:
            try:
                run_state_machine_as_test(seed(number)(schedule), settings=profile(schedules=SCHEDULES))
            except Exception:
                found = f"seed {number}:\n{traceback.format_exc()}"
            number += 1
        reports.put((schedule.steps, schedule.seen, found))

    began = time.monotonic()
    return _told(_gathered(run, options), options, time.monotonic() - began)


def _gathered(run: Callable[..., None], options: argparse.Namespace) -> list[Report]:
    """What all cores found."""
    forks = multiprocessing.get_context("fork")
    reports: Any = forks.Queue()
    share = -(-options.steps // options.processes)
    runs = [
        forks.Process(target=run, args=(options.seed + 1_000_000 * core, share, reports))
        for core in range(options.processes)
    ]
    for one in runs:
        one.start()
    found = [reports.get() for _ in runs]
    for one in runs:
        one.join()
    return found


def _told(reports: list[Report], options: argparse.Namespace, took: float) -> int:
    for _, _, found in reports:
        if found:
            print(found)
    seen: Counter[str] = sum((seen for _, seen, _ in reports), Counter())
    for what, times in sorted(seen.items()):
        print(f"{times:>9,}  {what}")
    steps = sum(steps for steps, _, _ in reports)
    print(f"{steps:,} steps in {took:.0f} s")
    if any(found for _, _, found in reports):
        return 1
    if steps < options.steps:
        print(f"cut short by --seconds {options.seconds:g}: {options.steps:,} steps were asked for")
        return 2
    return 0
