"""What config/monitoring/ holds, as tests ask for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
MONITORING = CHECKOUT / "config" / "monitoring"
RECORDING, ALERTS = MONITORING / "recording.yml", MONITORING / "alerts.yml"
RULES = (RECORDING, ALERTS)
PROMETHEUS, ALERTMANAGER = MONITORING / "prometheus.yml", MONITORING / "alertmanager.yml"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
UNIT_TESTS = sorted(Path(__file__).parent.glob("*.yml"))
RUNBOOKS = CHECKOUT / "docs" / "runbooks"
OPERATIONS = CHECKOUT / "docs" / "operations.md"
TABLE = CHECKOUT / "docs" / "metrics.md"

_METRIC = re.compile(r"\b(?:breaker|gateway)_[a-z0-9_]+\b")
_RECORDED = re.compile(r"\b[a-z]+:[a-z0-9_:]+")
_LABELS = re.compile(r"\{[^}]*\}|\b(?:by|without|on|ignoring) *\([^)]*\)")
_SUFFIX = re.compile(r"_(?:bucket|count|sum)$")


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def rules(*paths: Path) -> list[dict[str, Any]]:
    return [rule for path in paths for group in load(path)["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """By name."""
    return {rule["alert"]: rule for rule in rules(ALERTS) if "alert" in rule}


def recorded() -> dict[str, str]:
    """What each recording rule computes, by its name."""
    return {rule["record"]: rule["expr"] for rule in rules(*RULES) if "record" in rule}


@dataclass(frozen=True)
class Query:
    where: str
    promql: str


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those within collapsed rows too, rows themselves not."""
    for panel in dashboard["panels"]:
        yield from (inner for inner in panel.get("panels", ()))
        if panel["type"] != "row":
            yield panel


def dashboard_queries(path: Path) -> list[Query]:
    """All that it asks Prometheus: panels, variables and annotations, with their variables as Grafana has them."""
    dashboard = json.loads(path.read_text())
    found = [
        Query(f"{path.name}: {panel['title']}", target["expr"])
        for panel in panels(dashboard)
        for target in panel.get("targets", ())
    ]
    found += [
        Query(f"{path.name}: annotation {annotation['name']}", annotation["target"]["expr"])
        for annotation in dashboard["annotations"]["list"]
        if "target" in annotation
    ]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
            found.append(Query(f"{path.name}: variable {variable['name']}", f"group by ({label}) ({series})"))
    return found


def documented_queries() -> list[Query]:
    """Those of docs/operations.md."""
    blocks = re.findall(r"^```promql\n(.*?)^```", OPERATIONS.read_text(), flags=re.M | re.S)
    return [
        Query(f"operations.md: {query}", query) for block in blocks for query in re.split(r"\n\s*\n", block.strip())
    ]


def metrics_of(promql: str) -> set[str]:
    """The names of the gateway's own metrics that it comes from, as docs/metrics.md has them."""
    rules = recorded()
    names = {name for name in _RECORDED.findall(promql) if name in rules}
    found = set().union(*(metrics_of(rules[name]) for name in names))
    own = _LABELS.sub("", _RECORDED.sub("", promql))
    return found | {_SUFFIX.sub("", name) for name in _METRIC.findall(own)}


def documented_metrics() -> set[str]:
    return set(re.findall(r"^\| `([a-z0-9_]+)` \|", TABLE.read_text(), flags=re.M))
