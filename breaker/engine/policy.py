"""Policy: every option of a breaker, frozen, validated once.

Durations are seconds. The names are those of opossum, in Python's spelling.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Mapping
from typing import Any

LONGEST_DURATION = 3600.0
"""Seconds. Anything above is taken for milliseconds given by mistake."""

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
RESERVED_NAMES = frozenset({"status", "health", "events", "metrics", "breakerevent", "operatoract"})


class PolicyError(ValueError):
    """One or more options or a name cannot be used; the message names each with its value and the remedy."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a breaker's owner wants of it.

    >>> Policy(timeout=5, error_threshold_percentage=30).timeout
    5.0

    Raises PolicyError, which names every wrong option at once.
    """

    timeout: float = 30.0
    """Seconds a call may take on the wall clock, its whole answer included."""
    error_threshold_percentage: float = 50.0
    """The circuit opens when the window's deciding error rate is greater than this, 0 to 100."""
    reset_timeout: float = 60.0
    """Seconds that OPEN lasts before a trial call."""
    rolling_count_timeout: float = 60.0
    """Seconds that the window covers."""
    rolling_count_buckets: int = 10
    """Slices of the window; its oldest slice leaves as a whole."""
    volume_threshold: int = 5
    """Completed calls that the window must hold before the circuit may open."""
    rolling_percentiles_enabled: bool = True
    """Keep the latency histogram."""
    enabled: bool = True
    """False: calls pass unguarded and are still counted."""
    capacity: int | None = None
    """Calls in flight in one process; further ones are rejected. None: no limit."""
    half_open_max_calls: int = 1
    """Trial calls at once in the whole cluster; with several, the first outcome decides."""

    def __post_init__(self) -> None:
        faults = [fault for field in dataclasses.fields(self) if (fault := self._accept(field.name))]
        if not faults and self.bucket_width_ms < 10:
            faults.append(
                f"rolling_count_buckets={self.rolling_count_buckets!r}: slices of {self.bucket_width_ms} ms are too "
                "short; use fewer buckets or a longer rolling_count_timeout (at least 10 ms a slice)"
            )
        if faults:
            raise PolicyError("; ".join(faults))

    def _accept(self, option: str) -> str | None:
        """Normalise one option in place; answer what is wrong with it, or None."""
        value = getattr(self, option)
        try:
            object.__setattr__(self, option, _READERS[option](value))
        except ValueError as fault:
            return f"{option}={value!r}: {fault}"
        return None

    @classmethod
    def of(cls, options: Mapping[str, Any], *, base: Policy | None = None) -> Policy:
        """A policy from a mapping of options over `base`. Raises PolicyError, for an unknown option too."""
        unknown = [_unknown(option) for option in options if option not in _READERS]
        if unknown:
            raise PolicyError("; ".join(unknown))
        return dataclasses.replace(base or cls(), **options)

    @property
    def bucket_width_ms(self) -> int:
        return int(self.rolling_count_timeout * 1000 / self.rolling_count_buckets)


def _duration(value: object) -> float:
    number = _number(value)
    if number > LONGEST_DURATION:
        raise ValueError(f"seconds, not milliseconds; at most {LONGEST_DURATION:.0f}")
    if number <= 0:
        raise ValueError("a number of seconds greater than 0 is needed")
    return number


def _percentage(value: object) -> float:
    number = _number(value)
    if not 0 <= number <= 100:
        raise ValueError("a percentage from 0 to 100 is needed")
    return number


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a number is needed")
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
        raise ValueError("a whole number from 1 to 1000000 is needed")
    return value


def _slices(value: object) -> int:
    number = _count(value)
    if number > 1000:
        raise ValueError("at most 1000 slices")
    return number


def _optional_count(value: object) -> int | None:
    return None if value is None else _count(value)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("True or False is needed")
    return value


_READERS = {
    "timeout": _duration,
    "error_threshold_percentage": _percentage,
    "reset_timeout": _duration,
    "rolling_count_timeout": _duration,
    "rolling_count_buckets": _slices,
    "volume_threshold": _count,
    "rolling_percentiles_enabled": _switch,
    "enabled": _switch,
    "capacity": _optional_count,
    "half_open_max_calls": _count,
}


def _unknown(option: object) -> str:
    close = difflib.get_close_matches(str(option).lower(), _READERS, n=1)  # a settings' key may be anything
    remedy = f"did you mean {close[0]}?" if close else f"there are {', '.join(_READERS)}"
    return f"{option}: no such option; {remedy}"


def check_name(name: str) -> str:
    """The name, when a breaker may bear it. Raises PolicyError otherwise."""
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise PolicyError(
            f"name={name!r}: 1 to 100 letters, digits and . _ : - are allowed, the first a letter or a digit"
        )
    if name.lower() in RESERVED_NAMES:
        raise PolicyError(f"name={name!r}: reserved for an endpoint; choose another name")
    return name
