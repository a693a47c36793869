"""What README and docs/charts/ say is what the published run measured, and a chart says what its figures are."""

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pyperf
import pytest

from tests.benchmarks import contestants, deadline, gateway, kept, plan, readme, report, traffic
from tests.benchmarks.__main__ import FULL
from tests.benchmarks.course import Book, Course, Figure, Surely, Times, Unit, Within, shown
from tests.benchmarks.svg import Bar, Line, bars, lines

FACTS = {"command": "make bench", "measured_at": "today", "server": "Redis 7", "versions": "b 1"}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def published() -> tuple[Book, dict[str, object]]:
    return kept.load(readme.PUBLISHED)


def test_what_is_published_is_what_the_run_renders(published: tuple[Book, dict[str, object]]) -> None:
    stale = [path.name for path, content in readme.files(*published) if path.read_text("utf-8") != content]
    assert stale == [], "make charts writes them anew"


def test_no_chart_is_left_of_an_earlier_run(published: tuple[Book, dict[str, object]]) -> None:
    rendered = {path.name for path, _ in readme.files(*published) if path.parent == readme.CHARTS}
    assert {path.name for path in readme.CHARTS.iterdir()} == {*rendered, readme.PUBLISHED.name}


def test_the_published_run_is_one_and_whole(published: tuple[Book, dict[str, object]]) -> None:
    book, facts = published
    assert facts["command"] == "make bench"
    assert [course.name for course in plan.PRICED if course.name not in book] == []
    benchmarks = pyperf.BenchmarkSuite.load(str(readme.PUBLISHED)).get_benchmarks()
    assert {one.get_metadata()["measured_at"] for one in benchmarks} == {facts["measured_at"]}


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    course = plan.COURSES[0]
    figure = Figure(values=[1.23456e-6, 0.0, math.inf], beside={"CPU": 2.5})
    kept.keep(tmp_path / "run.json", [course], {course.name: {"ours, Redis": figure}}, {"command": "c"}, digits=4)
    book, facts = kept.load(tmp_path / "run.json")
    assert book == {course.name: {"ours, Redis": Figure(values=[1.235e-6, 0.0, math.inf], beside={"CPU": 2.5})}}
    assert facts["command"] == "c"


ROUNDS = {"ours": Figure(values=[1, 10]), "b": Figure(values=[2, 5])}


def _course(**given: Any) -> Course:
    return Course(**{"name": "c", "title": "A call", "rows": ("ours", "b")} | given)


def test_a_ratio_is_made_round_by_round_and_its_spread_is_shown() -> None:
    course = _course(in_rounds=True)
    assert course.ratios("b", {"c": ROUNDS}).values == [0.5, 2]
    assert readme.price(course, "b", {"c": ROUNDS}) == "**1.25** (0.5..2) · 3.5 s"


def test_what_was_not_seen_in_rounds_is_compared_by_its_medians_without_a_spread() -> None:
    book = {"c": ROUNDS}
    assert _course().ratios("b", book).values == [5.5 / 3.5]
    assert readme.price(_course(), "b", book) == "**1.57** · 3.5 s"
    assert readme.ranks(_course(), "b", book) == "**1.57** · 3.5 s / 5 s"


def test_a_row_may_stand_beside_another_of_ours_than_the_first() -> None:
    book = {"c": {"ours, 1": Figure(values=[1.0]), "ours, 9": Figure(values=[9.0]), "b, 9": Figure(values=[3.0])}}
    course = _course(rows=tuple(book["c"]), ours={"ours, 9": "ours, 9", "b, 9": "ours, 9"})
    assert [readme.price(course, row, book) for row in course.rows] == ["**1** · 1 s", "**1** · 9 s", "**3** · 3 s"]
    assert "3 " in list(report.table(course, book["c"]))[-1].split("b, 9")[0]


def test_what_was_seen_once_is_no_median(published: tuple[Book, dict[str, object]]) -> None:
    book, _ = published
    once = {course.name for course in plan.PRICED if all(len(each.values) == 1 for each in book[course.name].values())}
    assert {course.name for course in plan.PRICED if course.once} == once
    for grid in (*readme.GRIDS, *readme.OTHERS):
        columns = {name for _, name in grid.columns}
        assert ("one value" in grid.title) is bool(columns & once), grid.title
        assert not columns <= once or "median" not in grid.title, grid.title


def test_of_one_value_the_whole_table_shows_one() -> None:
    heading, row = list(report.table(_course(rows=("ours",), once=True), {"ours": Figure(values=[2.0])}))[1:]
    assert (heading.split(), row.split()) == (["first", "/", "this", "one", "value"], ["1", "ours", "2", "s"])


def test_each_priced_table_says_what_its_ratios_are_of() -> None:
    courses = {course.name: course for course in plan.PRICED}
    for grid in (*readme.GRIDS, *readme.OTHERS):
        in_rounds = {courses[name].in_rounds for _, name in grid.columns}
        assert ("over the rounds" in grid.title) is (in_rounds == {True}), grid.title


def _name(grid: readme.Grid) -> str:
    return grid.title.partition(";")[0]


@pytest.mark.parametrize("grid", [*readme.GRIDS, *readme.OTHERS], ids=_name)
def test_each_empty_cell_is_accounted_for_once_and_no_other(grid: readme.Grid) -> None:
    columns = [course for course in plan.PRICED if course.name in {name for _, name in grid.columns}]
    shown_rows = {row for course in columns for row in course.rows}
    empty = [(row, course.name) for row in shown_rows for course in columns if row not in course.rows]
    told = [
        (row, name)
        for each in grid.unmeasured
        for row in each.rows
        for name in each.columns or [course.name for course in columns]
    ]
    assert sorted(told_of for told_of in told if told_of[0] in shown_rows) == sorted(empty)
    assert all(not each.columns for each in grid.unmeasured if not shown_rows.issuperset(each.rows))


REDIS_PEERS = {
    name.partition(",")[0]
    for name in (
        contestants.PYBREAKER_REDIS,
        contestants.INTERLOCK_REDIS,
        contestants.BALDUR_REDIS,
        contestants.NOPANIC_REDIS,
    )
}


@pytest.mark.parametrize("grid", [*readme.GRIDS, *readme.OTHERS], ids=_name)
def test_no_peer_is_left_out_without_a_word(grid: readme.Grid) -> None:
    """Where one peer has a row, each has, or the note says why not, by its name."""
    rows = {row for course in plan.PRICED if course.name in {name for _, name in grid.columns} for row in course.rows}
    here = {row.partition(",")[0] for row in rows} & REDIS_PEERS
    for peer in REDIS_PEERS - here if here else ():
        why = [each.why for each in grid.unmeasured if any(row.startswith(peer) for row in each.rows)]
        assert any(peer in each for each in why), f"{peer} has no row in: {grid.title}"


def test_what_is_not_measured_is_said_below_the_table() -> None:
    missing = readme.Unmeasured(rows=("b",), why="b, for it is away")
    grid = readme.Grid(title="t", columns=(("", "c"),), cell=readme.price, unmeasured=(missing,), note="Read on.")
    *_, last = grid.lines({"c": _course(rows=("ours",))}, {"c": {"ours": Figure(values=[1.0])}})
    assert last == "Not measured: b, for it is away. Read on."


@pytest.mark.parametrize(("row", "rate", "told"), [(traffic.BALDUR_REDIS, 4.9, False), (traffic.BALDUR_REDIS, 5, True)])
def test_a_ratio_needs_commands_that_were_seen(row: str, rate: float, told: bool) -> None:
    course = traffic.COURSES[1]
    book = {course.name: {traffic.OURS: Figure(values=[80.0] * 2), row: Figure(values=[rate] * 2)}}
    assert (report.ratio_of(course, row, book) != "") == told
    few = {course.name: {traffic.OURS: Figure(values=[rate] * 2), row: Figure(values=[80.0] * 2)}}
    assert (report.ratio_of(course, row, few) != "") == told


def test_a_whole_run_watches_commands_for_as_long_as_is_reckoned_with() -> None:
    assert FULL.window_seconds * FULL.windows == traffic.WATCHED


def test_a_row_that_a_run_lacks_is_said_to_be_lacking() -> None:
    grid = readme.Grid(title="t", columns=(("here", "c"),), cell=readme.price)
    lines = list(grid.lines({"c": _course()}, {"c": {"ours": Figure(values=[1.0])}}))
    assert lines[-2:] == ["| ours | **1** · 1 s |", "| b | not in this run |"]


def _book(**share: float) -> Book:
    """Of a request of 800 us; the unguarded's share of it alone, and of its processor time under load."""
    alone = {gateway.GATEWAY: 800e-6, gateway.BARE: 400e-6}
    rates = {gateway.ONE: [1250.0] * 21, gateway.ONE_UNGUARDED: [1250.0 / share["alone"]] * 21}
    cpu = {gateway.GATEWAY: [700e-6] * 21, gateway.UNGUARDED: [700e-6 * share["loaded"]] * 21}
    return {
        gateway.ALONE.name: {row: Figure(values=[value]) for row, value in alone.items()},
        deadline.PRICE.name: {deadline.OURS: Figure(values=[120e-6])},
        gateway.RATE.name: {row: Figure(values=values) for row, values in rates.items()},
        gateway.CPU.name: {row: Figure(values=values) for row, values in cpu.items()},
    }


def test_why_a_goal_is_missed_is_said_in_figures_of_the_run() -> None:
    book = _book(alone=0.99, loaded=0.9)
    said = gateway.RATE.parts(book)
    assert re.findall(r"-?[\d.]+(?= us)", said) == ["800", "400", "120", "280", "8", "8..8", "70", "70..70", "700"]
    book[gateway.RATE.name] |= {gateway.GATEWAY: Figure(values=[500.0]), gateway.BARE: Figure(values=[1000.0])}
    assert f"{gateway.RATE.why_missed}; {said}." in readme.section(book, FACTS)
    del book[deadline.PRICE.name]
    assert gateway.RATE.parts(book) == ""


def test_a_guard_that_cannot_be_told_has_no_figure_but_bounds() -> None:
    said = gateway.RATE.parts(_book(alone=1.01, loaded=1.01))
    assert said.count("not to be told from nought (with 95 % certainty -") == 2


def test_the_goal_against_the_unguarded_is_judged_under_load_too() -> None:
    """By figures of their own: what one connection decides is not said of twelve."""
    fast, slow = Figure(values=[100.0] * 21), Figure(values=[90.0] * 21)
    rows = {gateway.GATEWAY: slow, gateway.UNGUARDED: fast, gateway.ONE: fast, gateway.ONE_UNGUARDED: fast}
    told = {verdict.goal: verdict for _, verdict in report.verdicts([gateway.RATE], {gateway.RATE.name: rows})}
    assert {goal: verdict.met for goal, verdict in told.items()} == {
        f"at least 0.97 x {gateway.UNGUARDED}": False,
        f"at least 0.97 x {gateway.ONE_UNGUARDED}": True,
    }


def test_what_the_guard_takes_of_the_processor_stands_below_the_requests_a_second() -> None:
    ours = Figure(values=[1.03e-3] * 21)
    book = {gateway.CPU.name: {gateway.GATEWAY: ours, gateway.UNGUARDED: Figure(values=[1e-3] * 21)}}
    book[gateway.RATE.name] = {gateway.GATEWAY: Figure(values=[1.0])}
    below = readme.section(book, FACTS).partition("scatters by more")[2].partition("\n")[0]
    assert "is 1.030 times the unguarded gateway's, with 95 % certainty 1.030..1.030 (21 rounds)." in below


def test_windows_are_shown_with_the_least_and_the_most() -> None:
    book = {"c": {"ours": Figure(values=[0.02, 0.01, 0.03])}}
    assert readme.price_and_windows(_course(unit=Unit.CORES), "ours", book) == "**1** · 2 % (1 %..3 %)"


@pytest.mark.parametrize(
    ("goal", "met"), [(Times(peer="b", at_most=0.5), True), (Times(peer="b", at_least=0.6), False)]
)
def test_a_goal_against_a_peer(goal: Times, met: bool) -> None:
    course = plan.COURSES[0]
    verdict = goal.judge(course, {course.name: {course.subject: Figure(values=[1.0]), "b": Figure(values=[2.0])}})
    assert verdict is not None
    assert verdict.met is met


@pytest.mark.parametrize(("at_most", "met"), [(4.0, True), (3.9, False)])
def test_a_goal_for_a_percentile(at_most: float, met: bool) -> None:
    course = plan.COURSES[0]
    goal = Within(row="a", rank=99, at_most=at_most)
    verdict = goal.judge(course, {course.name: {"a": Figure(values=[1.0, 4.0, 2.0])}})
    assert verdict is not None
    assert verdict.met is met


@pytest.mark.parametrize(
    ("values", "interval"),
    [
        ([], (math.inf, math.inf)),
        ([3.0, 1.0, 2.0], (1.0, 3.0)),
        (list(range(1, 7)), (1, 6)),  # 5 of 6 would be less certain than 95 %
        (list(range(1, 10)), (2, 8)),
        (list(range(1, 22)), (6, 16)),
        (list(range(1, 101)), (40, 61)),
    ],
)
def test_where_a_median_surely_lies_is_known_by_its_rank(values: list[float], interval: tuple[float, float]) -> None:
    assert Figure(values=values).surely == interval  # as tables of the sign test have it


@pytest.mark.parametrize(
    ("scatter", "middle", "met", "undecided"),
    [(0.01, 1.0, True, False), (0.1, 1.0, False, True), (0.01, 0.9, False, False)],
)
def test_a_small_goal_is_met_only_by_what_can_tell(scatter: float, middle: float, met: bool, undecided: bool) -> None:
    ours = [middle + scatter * place / 10 for place in range(-10, 11)]
    book = {"c": {"ours": Figure(values=ours), "b": Figure(values=[1.0] * 21)}}
    verdict = Surely(peer="b", at_least=0.97).judge(_course(in_rounds=True), book)
    assert verdict is not None
    assert (verdict.met, "does not decide" in verdict.found) == (met, undecided)
    assert "(21 rounds)" in verdict.found


@pytest.mark.parametrize(("rounds", "met"), [(1, False), (5, False), (6, True)])
def test_too_few_rounds_meet_no_small_goal(rounds: int, met: bool) -> None:
    book = {"c": {"ours": Figure(values=[2.0] * rounds), "b": Figure(values=[1.0] * rounds)}}
    verdict = Surely(peer="b", at_least=0.97).judge(_course(in_rounds=True), book)
    assert verdict is not None
    assert (verdict.met, "too few rounds" in verdict.found) == (met, not met)


def test_a_goal_for_the_middle_is_judged_by_what_the_table_shows() -> None:
    course = plan.COURSES[0]
    goal = Within(row="a", rank=50, at_most=1.5)
    verdict = goal.judge(course, {course.name: {"a": Figure(values=[1.0, 3.0])}})
    assert verdict is not None
    assert (verdict.met, verdict.found) == (False, "2 s")


def test_a_goal_without_its_rows_is_not_judged() -> None:
    assert Times(peer="b", at_most=1).judge(plan.COURSES[0], {}) is None


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (1.5e-7, Unit.SECONDS, "150 ns"),
        (0.0123, Unit.SECONDS, "12.3 ms"),
        (9.998e-7, Unit.SECONDS, "1 us"),
        (2_500_000, Unit.BYTES, "2.5 MB"),
        (0.0123, Unit.CORES, "1.2 %"),
        (1234.5, Unit.A_SECOND, "1,234/s"),
        (float("inf"), Unit.SECONDS, "never"),
    ],
)
def test_figures_are_said_with_their_unit(value: float, unit: Unit, said: str) -> None:
    assert shown(value, unit) == said


def test_bars_are_as_long_as_the_logarithm_says() -> None:
    chart = bars("t", [("g", [Bar(label="a", value=10), Bar(label="b", value=100), Bar(label="c", value=1000)])], str)
    short, middle, long = (
        float(bar.attrib["width"]) for bar in ET.fromstring(chart).iter(f"{SVG}rect") if "x" in bar.attrib
    )
    assert (short, long) == pytest.approx((0, 2 * middle), abs=0.2)


def test_a_line_has_a_point_for_each_figure_that_has_a_place() -> None:
    chart = lines(
        "t", [Line(label="a & b", points=[(0, 0.0), (1, 1.0), (2, 10.0), (3, math.inf)])], x_name="x", y_show=str
    )
    assert len(list(ET.fromstring(chart).iter(f"{SVG}circle"))) == 2


def test_a_chart_can_be_read_on_a_dark_page() -> None:
    assert "@media (prefers-color-scheme: dark)" in lines(
        "t", [Line(label="a", points=[(1, 1)])], x_name="x", y_show=str
    )
