"""Traces: read from traces/*.json, whose form trace.schema.json gives and docs/design/conformance.md explains."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCHEMA = HERE / "trace.schema.json"
FILES = sorted((HERE / "traces").glob("*.json"))

RUN = "FSTX"
"""Letters of calls that must be run."""


@dataclass(frozen=True, kw_only=True)
class Trip:
    """When it opens. Its kinds are alternatives: the trace holds for a breaker of either."""

    rate: float | None = None
    """Percent of the window's calls that fail."""
    inclusive: bool = False
    """Whether exactly the rate opens."""
    volume: int = 1
    window_calls: int | None = None
    window_seconds: float | None = None
    consecutive: int | None = None


@dataclass(frozen=True, kw_only=True)
class Policy:
    trip: Trip
    open_seconds: float
    call_seconds: float = 30
    trial_successes: int = 1
    trials_at_once: int = 1


@dataclass(frozen=True, kw_only=True)
class Trace:
    name: str
    says: str
    source: Mapping[str, str]
    policy: Policy
    workers: Sequence[str]
    clocks: Mapping[str, float] = field(default_factory=dict)
    needs: Sequence[str]
    steps: Sequence[Mapping[str, Any]]
    runs: int

    def implied(self) -> set[str]:
        """Needs that follow from the policy and the steps."""
        acts = {step["act"] for step in self.steps if "act" in step}
        found = {
            "several-trial-successes": self.policy.trial_successes > 1,
            "several-trials-at-once": self.policy.trials_at_once > 1,
            "excluded-errors": any("X" in step.get("do", "") + step.get("with", "") for step in self.steps),
            "time-limit": any("T" in step.get("do", "") for step in self.steps),
            "shared-state": len(self.workers) > 1 or any("join" in step for step in self.steps),
            "goes-on-alone": any("cut" in step for step in self.steps),
            "operator-open": "open" in acts,
            "operator-close": "close" in acts,
            "operator-disable": "disable" in acts,
            "operator-reset": "reset" in acts,
            "operator-ends": any("for" in step for step in self.steps),
        }
        return {need for need, is_so in found.items() if is_so}


def read(path: Path) -> Trace:
    fields = json.loads(path.read_text("utf-8"))
    policy = fields["policy"]
    return Trace(**fields | {"policy": Policy(**policy | {"trip": Trip(**policy["trip"])})})


def brief(step: Mapping[str, Any]) -> str:
    """A step in a few characters: `a:FFFO`, `wait 10`, `b:begin x`, `end x F`."""
    for verb in ("do", "begin", "act"):
        if verb in step:
            return f"{step['on']}:{step[verb]}" if verb == "do" else f"{step['on']}:{verb} {step[verb]}"
    if "end" in step:
        return f"end {step['end']} {step['with']}"
    (verb,) = (verb for verb in ("wait", "news", "kill", "join", "cut", "mend", "forget") if verb in step)
    return verb if step[verb] is True else f"{verb} {step[verb]}"
