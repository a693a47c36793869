"""What on-call people get fits together: alerts, their tests and runbooks, dashboards, and the page that explains."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.urls import resolve

from tests.monitoring import files
from tests.monitoring.files import (
    ALERTS,
    CHECKOUT,
    DASHBOARDS,
    OPERATIONS,
    RULES,
    RUNBOOKS,
    UNIT_TESTS,
    Query,
    alerts,
    dashboard_queries,
    documented_metrics,
    documented_queries,
    metrics_of,
    panels,
    rules,
)
from tests.programs import needs_program

OVERVIEW, ONE_BREAKER = "overview", "one breaker"


def rule_queries() -> list[Query]:
    return [Query(f"{rule.get('alert') or rule['record']}", rule["expr"]) for rule in rules(*RULES)]


def all_dashboard_queries() -> list[Query]:
    return [query for path in DASHBOARDS for query in dashboard_queries(path)]


def all_queries() -> list[Query]:
    return rule_queries() + all_dashboard_queries() + documented_queries()


def dashboards() -> dict[str, Any]:
    """By what docs/operations.md calls them."""
    loaded = [json.loads(path.read_text()) for path in DASHBOARDS]
    return {one["title"].removeprefix("mifos-gateway: "): one for one in loaded}


# -- alerts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_how_grave_it_is_and_what_to_do(name: str) -> None:
    alert = alerts()[name]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
    runbook = (CHECKOUT / alert["annotations"]["runbook_url"]).read_text()
    assert runbook.startswith(f"# {name}\n\nSeverity: {alert['labels']['severity']}.")
    assert re.findall(r"^## (.+)$", runbook, flags=re.M) == ["What it means", "What to look at", "What to do"]


def test_every_runbook_has_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*")} == set(alerts())


def test_every_alert_is_tested_where_it_fires_and_where_it_does_not() -> None:
    fires, silent = set(), set()
    for test in itertools.chain.from_iterable(files.load(path)["tests"] for path in UNIT_TESTS):
        for case in test.get("alert_rule_test", ()):
            (fires if case["exp_alerts"] else silent).add(case["alertname"])
    assert (fires, silent) == (set(alerts()), set(alerts()))


def test_alerts_come_by_client_not_by_breaker() -> None:
    assert not [
        name for name, alert in alerts().items() if re.search(r"\$labels\.(breaker|method|instance)", str(alert))
    ]


def test_alerts_ask_for_recordings_that_are_there() -> None:
    asked = {
        name for rule in rules(ALERTS) for name in re.findall(r"\b(?:breaker|client|cluster):[a-z0-9_:]+", rule["expr"])
    }
    assert asked <= set(files.recorded())


# -- queries -----------------------------------------------------------------------------------------------------------


def test_all_that_is_asked_is_told() -> None:
    unknown = {
        query.where: more for query in all_queries() if (more := metrics_of(query.promql) - documented_metrics())
    }
    assert unknown == {}


def test_all_that_is_asked_is_promql(tmp_path: Path) -> None:
    promtool = needs_program("promtool")
    variables = re.compile(r"\$\w+")
    recorded = [
        {"record": f"query:{number}", "expr": variables.sub("10s", query.promql)}
        for number, query in enumerate(all_dashboard_queries() + documented_queries())
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    done = subprocess.run([promtool, "check", "rules", "--lint=none", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_make_check_shows_promtool_has_all_breakers() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "from tests.monitoring.__main__ import exposition; print(exposition())"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said.stdout.count("breaker_error_threshold_ratio{") == 12, said.stderr


# -- dashboards --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_asks_the_variables_that_it_has(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    has = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval"}
    asked = {name for query in dashboard_queries(path) for name in re.findall(r"\$(\w+)", query.promql)}
    assert asked <= has
    sources = {json.dumps(panel["datasource"]) for panel in panels(dashboard)}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_no_panel_lies_over_another(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"] == path.stem
    ids = [panel["id"] for panel in {id(panel): panel for panel in [*dashboard["panels"], *panels(dashboard)]}.values()]
    assert len(set(ids)) == len(ids)
    taken: dict[tuple[int, int], str] = {}
    for panel in panels(dashboard):
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x, y in itertools.product(range(place["w"]), range(place["h"])):
            square = (place["x"] + x, place["y"] + y)
            assert square not in taken, (panel["title"], taken[square])
            taken[square] = panel["title"]


def test_links_lead_to_pages_of_the_admin() -> None:
    links = {link for path in DASHBOARDS for link in re.findall(r'"\$\{gateway\}(/[^"]*)"', path.read_text())}
    assert links
    for link in links:
        assert resolve(re.sub(r"\$\{[^}]+\}|\$breaker", "MIFOS-Maker-get", link)).view_name.startswith("admin:breaker_")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_changes_are_marked(path: Path) -> None:
    marked = [query.promql for query in dashboard_queries(path) if "annotation" in query.where]
    assert {re.findall(r'to="(\w+)"', promql)[0] for promql in marked} == {"open", "half_open", "closed"}


# -- docs/operations.md ------------------------------------------------------------------------------------------------


def test_operations_names_every_alert_with_its_panel_and_query() -> None:
    *sections, table = re.split(r"^## ", OPERATIONS.read_text(), flags=re.M)[2:]
    linked = re.compile(r"\[(\w+)\]\(runbooks/\1\.md\)")
    for section in sections:
        assert "```promql" in section, section
        assert re.search(r"^Panels?: ", section, flags=re.M), section
        assert linked.search(section), section
    assert {name for section in sections for name in linked.findall(section)} == set(alerts())
    severities = dict(re.findall(r"^\| \[(\w+)\]\(runbooks/\w+\.md\) \| (\w+) \|", table, flags=re.M))
    assert severities == {name: alert["labels"]["severity"] for name, alert in alerts().items()}


def test_operations_names_panels_that_are_there() -> None:
    text = " ".join(OPERATIONS.read_text().split())
    named = re.findall(rf'({OVERVIEW}|{ONE_BREAKER}) "([^"]+)"', text)
    there = {(name, panel["title"]) for name, dashboard in dashboards().items() for panel in panels(dashboard)}
    assert named
    assert set(named) <= there


def test_links_in_runbooks_and_operations_lead_somewhere() -> None:
    for page in (OPERATIONS, *RUNBOOKS.glob("*.md")):
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text()):
            other = (page.parent / target).resolve() if target else page
            assert other.is_file(), (page.name, target)
            if anchor:
                headings = re.findall(r"^#+ (.+)$", other.read_text(), flags=re.M)
                assert anchor in {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}, anchor
