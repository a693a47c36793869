"""README's price section, and all of docs/charts/, from the figures of a run: `make charts ARGS=var/bench/RUN.json`.

Without a run it renders anew what is published. Nobody writes in that section by hand: a test compares.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breaker.engine import sync
from tests.benchmarks import charts, contestants, crowds, gateway, kept, plan, propagation, report
from tests.benchmarks.course import Book, Course, nothing, shown
from tests.benchmarks.traffic import FEWEST, FROM, RATES

CHECKOUT = Path(__file__).parents[2]
CHARTS = CHECKOUT / "docs" / "charts"
PUBLISHED = CHARTS / "price.json"
README = CHECKOUT / "README.md"
BEGIN, END = "<!-- measured: begin (make charts) -->", "<!-- measured: end -->"
DIGITS = 4
"""Of a published value."""

Cell = Callable[[Course, str, Book], str]


def price(course: Course, row: str, book: Book) -> str:
    """Ratio first, its spread, and what one takes."""
    return _after_ratio(amount(course, row, book), course, row, book)


def _after_ratio(what: str, course: Course, row: str, book: Book) -> str:
    ratio, _, spread = report.ratio_of(course, row, book).partition("  ")
    if ratio in ("", report.NO_RATIO):
        return what
    return f"**{ratio}** {spread} · {what}" if spread else f"**{ratio}** · {what}"


def price_and_more(course: Course, row: str, book: Book) -> str:
    """The same, and what else was seen."""
    return ", ".join(filter(None, (price(course, row, book), report.beside(book[course.name][row]))))


def ranks(course: Course, row: str, book: Book) -> str:
    """Ratio first, the median, and the one in a hundred, which is its spread."""
    what = f"{amount(course, row, book)} / {shown(book[course.name][row].rank(99), course.unit)}"
    return _after_ratio(what, course, row, book)


def price_and_windows(course: Course, row: str, book: Book) -> str:
    """Ratio first, what one takes, and the least and most of the windows where they are no rounds."""
    values = book[course.name][row].values
    if course.in_rounds or len(values) < 2:
        return price(course, row, book)
    return f"{price(course, row, book)} ({shown(min(values), course.unit)}..{shown(max(values), course.unit)})"


def amount(course: Course, row: str, book: Book) -> str:
    return shown(book[course.name][row].median, course.unit)


def wire(course: Course, row: str, book: Book) -> str:
    """Ratio first, commands a second, and how many round trips they came in."""
    trips = shown(book[course.name][row].beside.get("round trips", 0.0), course.unit)
    what = f"{amount(course, row, book).removesuffix('/s')} ({trips.removesuffix('/s')})"
    return _after_ratio(what, course, row, book)


@dataclass(frozen=True, kw_only=True)
class Unmeasured:
    """Cells of a table that are empty, or a contestant that it has no row of."""

    rows: Sequence[str]
    columns: Sequence[str] = ()
    """Courses; none: all of the table."""
    why: str


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Courses side by side: one table."""

    title: str
    columns: Sequence[tuple[str, str]]
    """Heading and course."""
    cell: Cell
    unmeasured: Sequence[Unmeasured] = ()
    """Each empty cell, and each peer without a row."""
    note: str = ""
    """Below the table: how to read it."""
    figures: Callable[[Book], str] = nothing
    """After the note: what else the run has measured of it."""

    def lines(self, courses: Mapping[str, Course], book: Book) -> Iterator[str]:
        columns = [(heading, courses[name]) for heading, name in self.columns if name in book]
        if not columns:
            return
        rows = list(dict.fromkeys(row for _, course in columns for row in course.rows))
        yield from ("", f"{self.title}:", "")
        yield f"| | {' | '.join(heading for heading, _ in columns)} |"
        yield f"|---|{'---|' * len(columns)}"
        for row in rows:
            yield f"| {row} | {' | '.join(self._cell(course, row, book) for _, course in columns)} |"
        missing = "; ".join(each.why for each in self.unmeasured)
        missing = f"Not measured: {missing}." if missing else ""
        if note := " ".join(filter(None, (missing, self.note, self.figures(book)))):
            yield from ("", note)

    def _cell(self, course: Course, row: str, book: Book) -> str:
        """Empty: the course has no such row, for a reason that `unmeasured` gives."""
        if row not in course.rows:
            return ""
        return self.cell(course, row, book) if row in book[course.name] else "not in this run"


IN_ROUNDS = "**ours / theirs** (p10..p90 over the rounds) · median"
GROWTH = (
    f"Goals are judged from {FROM}/s upward. From 0 to {FROM}/s ours does grow, and this is the whole growth: a "
    f"process that has nothing to count pushes once in {sync.HEARTBEAT:g} s, to say that it lives; one that has, every "
    f"{sync.IDLE_BEAT:g} s, whatever the rate, and counting takes more of the script's commands."
)
FEW_SEEN = f"No ratio is made where fewer than {FEWEST} commands were seen of either."
OF_ONE_VALUE = "**ours / theirs** · one value"
OF_MEDIANS = "**ours / theirs**, of the medians"
GRIDS = (
    Grid(
        title=f"A guarded call, closed; {IN_ROUNDS}",
        columns=(
            *((f"{threads} thread{'s' * (threads > 1)}", f"closed-{threads}") for threads in (1, 8, 32)),
            ("0.2 s on 8 threads", "slow-8"),
        ),
        cell=price,
        unmeasured=(
            Unmeasured(
                rows=(contestants.ROUND_TRIP,),
                columns=("slow-8",),
                why="a bare round trip at 0.2 s, since it guards no function that could be slow",
            ),
        ),
    ),
    Grid(
        title=f"A rejected call; {IN_ROUNDS}",
        columns=tuple((f"{threads} thread{'s' * (threads > 1)}", f"rejected-{threads}") for threads in (1, 8, 32)),
        cell=price,
    ),
    Grid(
        title=f"From the deciding failure to the last worker's knowing; {OF_MEDIANS} · p50 / p99",
        columns=(
            ("idle", "trip-idle"),
            ("2,000 calls/s in all by 32 threads each, nine tenths of the time waiting for an answer", "trip-gthread"),
            ("8 threads each spinning", "trip-spin"),
            ("only the hearer spinning", "trip-hearer"),
        ),
        cell=ranks,
        unmeasured=(
            Unmeasured(
                rows=("8 workers", "16 workers"),
                columns=("trip-spin",),
                why="8 and 16 workers spinning, which would tell of the machine's two cores alone",
            ),
            Unmeasured(
                rows=("4 workers", "8 workers", "16 workers"),
                columns=("trip-hearer",),
                why="more hearers than one while only they spin, for the same reason",
            ),
            Unmeasured(
                rows=(propagation.POLLED,),
                columns=("trip-gthread", "trip-spin", "trip-hearer"),
                why="interlock-cb in more workers or under load, since each of its workers polls once a second, and "
                "that is its figure",
            ),
            Unmeasured(
                rows=(contestants.PYBREAKER_REDIS, contestants.NOPANIC_REDIS),
                why="pybreaker and nopanic-redis, which tell nobody: each call asks Redis",
            ),
            Unmeasured(
                rows=(contestants.BALDUR_REDIS,),
                why="baldur-framework, whose running processes are not told of another's trip (what listens for it is "
                "not in the free package): each finds it in Redis when it starts, or is about to trip by failures of "
                "its own",
            ),
        ),
    ),
    *(
        Grid(
            title=f"Redis commands a second by the rate of {kind} calls; {OF_MEDIANS} · commands (round trips)",
            columns=tuple((f"{rate:,}/s", f"traffic-{name}-{rate}") for rate in RATES),
            cell=wire,
            note=f"{GROWTH} {FEW_SEEN}",
        )
        for kind, name in (("successful", "success"), ("rejected", "rejected"))
    ),
    Grid(
        title=f"Many breakers in one process; {OF_MEDIANS} for as many breakers · median (least..most); "
        "a call's as above, round by round; memory and until all follow are one value",
        columns=(
            ("a call", "crowd-call"),
            ("background, idle", "crowd-idle"),
            ("background, 300 calls/s", "crowd-busy"),
            ("memory", "crowd-memory"),
            ("until all follow", "crowd-join"),
        ),
        cell=price_and_windows,
        unmeasured=(
            Unmeasured(
                rows=(contestants.crowd(contestants.INTERLOCK_REDIS, crowds.MOST),),
                why="interlock-cb with 10,000, a polling thread for each, which had not begun after 150 s",
            ),
            Unmeasured(
                rows=tuple(row for row in crowds.IDLE.rows if row.startswith(("interlock-cb", "baldur-framework"))),
                columns=("crowd-call",),
                why="a call of interlock-cb's and baldur-framework's by the number of breakers, since their threads "
                "would run during the others' turns (with one breaker it is in the first table)",
            ),
            Unmeasured(
                rows=tuple(row for row in crowds.IDLE.rows if row not in crowds.JOIN.rows),
                columns=("crowd-join",),
                why="until all follow, of peers: each of their breakers begins with its first call",
            ),
            Unmeasured(rows=(contestants.NOPANIC_REDIS,), why="nopanic-redis, which has no thread in the background"),
        ),
    ),
    *(
        Grid(
            title=f"A status read of {count:,} breakers; **first / this** (p10..p90 over the rounds) · median",
            columns=(("", name),),
            cell=price,
        )
        for count, name in ((12, "status-12"), (1_000, "status-1000"))
    ),
    Grid(
        title=f"Beyond a limit of 0.1 s, from a peer that; {OF_MEDIANS} · p50 / p99",
        columns=(
            ("is silent", "deadline-silent"),
            ("drips headers", "deadline-headers"),
            ("drips the body", "deadline-body"),
        ),
        cell=ranks,
    ),
)
SHOWN = {name for grid in GRIDS for _, name in grid.columns}


def _alone(course: Course) -> Grid:
    """A table of its own."""
    if 99 in course.ranks:
        return Grid(title=f"{course.title}; {OF_MEDIANS} · p50 / p99", columns=(("", course.name),), cell=ranks)
    note, figures = NOTES.get(course.name, ""), FIGURES.get(course.name, nothing)
    how = IN_ROUNDS if course.in_rounds else OF_ONE_VALUE if course.once else f"{OF_MEDIANS} · median"
    return Grid(
        title=f"{course.title}; {how}", columns=(("", course.name),), cell=price_and_more, note=note, figures=figures
    )


NOTES = {
    gateway.RATE.name: "What the guard takes is set against 3 %, and the goal is judged twice: over "
    f"{gateway.CONNECTIONS} connections, where a round's ratio scatters by more than that on this machine, and over "
    "one, in more rounds of those two alone. Each is met only if the median of the ratios is above 97 % with 95 % "
    "certainty; one whose interval holds 97 % stands under the missed.",
}
FIGURES = {gateway.RATE.name: gateway.cpu_of_the_guard}
OTHERS = tuple(_alone(course) for course in plan.PRICED if course.name not in SHOWN)


def section(book: Book, facts: Mapping[str, Any]) -> str:
    """What stands between the marks."""
    courses = {course.name: course for course in plan.PRICED}
    when, where, what = report.machine(facts)
    lines = [f"`{facts['command']}`, {when}; {where}; {what}."]
    for grid in (*GRIDS, *OTHERS):
        lines += grid.lines(courses, book)
    lines += ["", *_goals(book), ""]
    lines += [f"![{name.removesuffix('.svg')}](docs/charts/{name})" for name, _ in charts.draw(book)]
    return "\n".join(lines)


def _goals(book: Book) -> Iterator[str]:
    found = list(report.verdicts(plan.PRICED, book))
    missed = [(course, verdict) for course, verdict in found if not verdict.met]
    yield f"Of {len(found)} goals {len(found) - len(missed)} are met." + (" Missed:" if missed else "")
    if missed:
        yield ""
    for course, verdict in missed:
        yield f"* {course.title}: {verdict.goal}, is {verdict.found}"
    reasons = {
        course.title: "; ".join(filter(None, (course.why_missed, course.parts(book))))
        for course, _ in missed
        if course.why_missed
    }
    if reasons:
        yield from ("", "Why:", "")
    for title, reason in reasons.items():
        yield f"* {title}: {reason}."


def inserted(readme: str, book: Book, facts: Mapping[str, Any]) -> str:
    """README with its marked section as these figures have it."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{section(book, facts)}\n{END}{after}"


def whole_table(book: Book, facts: Mapping[str, Any]) -> str:
    """What the run printed."""
    lines = [*report.machine(facts), ""]
    for course in plan.PRICED:
        if course.name in book:
            lines += [*report.table(course, book[course.name])]
            lines += [report.verdict_line(verdict) for _, verdict in report.verdicts([course], book)] + [""]
    return "\n".join([*lines, *report.summary(plan.PRICED, book), ""])


def files(book: Book, facts: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Everything that is rendered from a run."""
    yield README, inserted(README.read_text("utf-8"), book, facts)
    yield CHARTS / "price.txt", whole_table(book, facts)
    for name, chart in charts.draw(book):
        yield CHARTS / name, chart


def main() -> None:
    parser = argparse.ArgumentParser(prog="make charts", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, nargs="?", help="the JSON of a run; without it, the published one")
    run = parser.parse_args().run
    if run is not None:
        kept.keep(PUBLISHED, plan.PRICED, *kept.load(run), digits=DIGITS)
    for path, content in files(*kept.load(PUBLISHED)):
        path.write_text(content, "utf-8")
        print(path.relative_to(CHECKOUT))


if __name__ == "__main__":
    main()
