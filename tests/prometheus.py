"""What a scrape says, as prometheus_client's own parsers read it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families


class Scrape:
    """`scrape["breaker_state", {"breaker": "x", "state": "open"}]`: the one sample with those labels among its own."""

    def __init__(self, text: str, *, as_openmetrics: bool = False) -> None:
        self.text = text
        self.families = list((openmetrics_families if as_openmetrics else text_families)(text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def all(self, name: str, **labels: str) -> list[Any]:
        wanted = labels.items()
        return [one for one in self.samples if one.name == name and wanted <= one.labels.items()]

    def value(self, name: str, **labels: str) -> float:
        found = self.all(name, **labels)
        assert len(found) == 1, f"{len(found)} samples of {name} {labels}:\n{self.text}"
        return float(found[0].value)

    def sum(self, name: str, **labels: str) -> float:
        return sum(one.value for one in self.all(name, **labels))

    def counters(self) -> dict[tuple[str, Any], float]:
        """All that must never become less."""
        ends = ("_total", "_bucket", "_count", "_sum")
        return {
            (one.name, tuple(sorted(one.labels.items()))): one.value for one in self.samples if one.name.endswith(ends)
        }


def fallen(before: Scrape, after: Scrape) -> list[Any]:
    """The counters that are less than they were, or gone."""
    now = after.counters()
    return [key for key, value in before.counters().items() if now.get(key, -1) < value]


def lint(promtool: str, text: str) -> Iterable[str]:
    """What `promtool check metrics` complains of."""
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    return (done.stdout + done.stderr).splitlines()
