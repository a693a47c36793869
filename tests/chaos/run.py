"""One run: a schedule played on a stage, and what was recorded of it."""

import time
from pathlib import Path

from tests.chaos.crowd import PARTS
from tests.chaos.recording import Recording
from tests.chaos.schedule import schedule
from tests.chaos.stage import THREADS, Stage


def play(seed: int, minutes: float, folder: Path, keep: Path) -> Recording:
    """Everything that was started has ended when this returns or raises, and what was recorded is kept."""
    steps = schedule(seed, minutes * 60)
    recording = Recording(
        seed=seed,
        minutes=minutes,
        plan=[str(step) for step in steps],
        policies={part.breaker: part.options for part in PARTS},
        whole=[part.breaker for part in PARTS if part.whole],
        idle_at_most=THREADS,
    )
    try:
        with Stage(folder, recording) as stage:
            stage.crowd.start()
            for step in steps:
                time.sleep(max(0.0, step.at - stage.clock()))
                getattr(stage, step.verb)(*step.arguments)
                if stage.crowd.given_up:
                    break
            stage.finish()
            stage.end()
    except BaseException as error:  # what pytest calls failed is no Exception
        error.add_note("\n".join([f"{keep} has what was recorded; the schedule of seed {seed} was:", *recording.plan]))
        raise
    finally:
        keep.parent.mkdir(parents=True, exist_ok=True)
        recording.save(keep)
    return recording
