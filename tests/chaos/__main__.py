"""`make chaos`: a run of some minutes, its figures, and what was wrong; exits with 1 when anything was.

The schedule follows from the seed and the minutes alone: `make chaos ARGS="--seed 7 --minutes 3"` repeats it.
"""

import argparse
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from tests.acceptance.gateway import CHECKOUT
from tests.chaos.checker import check
from tests.chaos.recording import Recording
from tests.chaos.report import figures, violations
from tests.chaos.run import play

SHORTEST, LONGEST = 1.0, 10.0
KEPT = CHECKOUT / "var" / "chaos.json"


def main() -> int:
    options = _options()
    if options.read:
        recording = Recording.load(options.read)
    else:
        print(f"seed {options.seed}, {options.minutes:g} min", flush=True)
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            recording = play(options.seed, options.minutes, Path(folder), options.keep)
    found = check(recording)
    print("\n".join([*figures(recording), *violations(recording, found)]))
    return 1 if found else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="default: any")
    parser.add_argument(
        "--minutes", type=_minutes, default=4.0, help=f"{SHORTEST:g} to {LONGEST:g}; default: %(default)g"
    )
    parser.add_argument(
        "--keep", type=Path, default=KEPT, metavar="FILE", help="write the recording there; default: var/chaos.json"
    )
    parser.add_argument("--read", type=Path, metavar="FILE", help="only check a recording that was kept")
    return parser.parse_args()


def _minutes(text: str) -> float:
    minutes = float(text)
    if not SHORTEST <= minutes <= LONGEST:
        raise argparse.ArgumentTypeError(f"must be {SHORTEST:g} to {LONGEST:g}, not {text}")
    return minutes


def _end(number: int, frame: object) -> NoReturn:
    """As Ctrl-C does: everything that was started is ended on the way out."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts a job in the background has it ignored
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
