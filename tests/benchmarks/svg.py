"""Two kinds of chart as plain SVG, on a logarithmic scale, readable on light and dark pages alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 760
LIGHT = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#9a6700", "#57606a")
DARK = ("#58a6ff", "#f0883e", "#56d364", "#bc8cff", "#e3b341", "#8b949e")
COLOURS = len(LIGHT)


def _colours(colours: Sequence[str]) -> str:
    return " ".join(f".c{place} {{ fill: {hue}; stroke: {hue}; }}" for place, hue in enumerate(colours))


STYLE = f"""
  text {{ font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }}
  .page {{ fill: #ffffff; }} .title {{ font-size: 15px; font-weight: 600; }}
  .small {{ font-size: 12px; fill: #59636e; }}
  .rule {{ stroke: #d1d9e0; }} .goal {{ stroke: #b3261e; stroke-dasharray: 5 4; }} .goals {{ fill: #b3261e; }}
  .end {{ text-anchor: end; }} .mid {{ text-anchor: middle; }} .rest {{ fill: #afb8c1; }}
  {_colours(LIGHT)}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #e6edf3; }} .page {{ fill: #0d1117; }} .small {{ fill: #9198a1; }} .rule {{ stroke: #30363d; }}
    .goal {{ stroke: #ff7b72; }} .goals {{ fill: #ff7b72; }} .rest {{ fill: #545d68; }}
    {_colours(DARK)}
  }}
  .bar {{ stroke: none; }} .line {{ fill: none; stroke-width: 2.2; }}
"""


Show = Callable[[float], str]


@dataclass(frozen=True, kw_only=True)
class Bar:
    label: str
    value: float
    ours: bool = False


@dataclass(frozen=True, kw_only=True)
class Line:
    label: str
    points: Sequence[tuple[float, float]]
    """x and y; a y that is zero or infinite has no place on the scale."""
    dashed: bool = False
    colour: int | None = None


class Scale:
    """A logarithm between two ends; whole powers of ten are marked, and 3 times them where there is room."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low = 10 ** math.floor(math.log10(min(values)))
        self.high = 10 ** math.ceil(math.log10(max(values) * 1.0001))
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self._start + share * (self._end - self._start)

    def marks(self) -> list[float]:
        powers = round(math.log10(self.high / self.low))
        return [self.low * 10.0**power for power in range(powers + 1)]


def bars(title: str, groups: Sequence[tuple[str, Sequence[Bar]]], show: Show) -> str:
    """Groups of horizontal bars over one scale, the shortest first, each with its value behind it."""
    scale = Scale([bar.value for _, group in groups for bar in group], 190, WIDTH - 80)
    parts, y = [], 46.0
    for heading, group in groups:
        parts.append(_text(16, y + 12, heading, "small"))
        y += 22
        for bar in sorted(group, key=lambda bar: bar.value):
            colour = "c0" if bar.ours else "rest"
            end = scale(bar.value)
            parts.append(_text(182, y + 13, bar.label, "end"))
            parts.append(f'<rect class="bar {colour}" x="190" y="{y:g}" width="{end - 190:.1f}" height="17" rx="2"/>')
            parts.append(_text(end + 6, y + 13, show(bar.value)))
            y += 23
        y += 12
    grid = [part for mark in scale.marks() for part in _upright(scale(mark), 46, y, show(mark))]
    return _page(title, y + 30, [*grid, *parts])


def lines(
    title: str,
    series: Sequence[Line],
    *,
    x_name: str,
    y_show: Show,
    goals: Sequence[tuple[float, str]] = (),
    height: int = 400,
) -> str:
    """Lines over steps of x, which stand evenly whatever their distance."""
    steps = sorted({x for line in series for x, _ in line.points})
    legend = list(_legend(series))
    top, bottom, left, right = 52 + 20 * math.ceil(len(series) / 3), height - 46, 70, WIDTH - 30
    values = [y for line in series for _, y in line.points if _has_place(y)] + [goal for goal, _ in goals]
    scale = Scale(values, bottom, top)
    places = {x: left + (right - left) * (0.5 + place) / len(steps) for place, x in enumerate(steps)}
    parts = []
    for mark in scale.marks():
        parts.append(f'<line class="rule" x1="{left}" x2="{right}" y1="{scale(mark):.1f}" y2="{scale(mark):.1f}"/>')
        parts.append(_text(left - 8, scale(mark) + 4, y_show(mark), "small end"))
    for goal, said in goals:
        parts.append(f'<line class="goal" x1="{left}" x2="{right}" y1="{scale(goal):.1f}" y2="{scale(goal):.1f}"/>')
        parts.append(_text(right - 4, scale(goal) - 5, said, "small end goals"))
    parts += [_text(place, bottom + 20, f"{x:,g}", "small mid") for x, place in places.items()]
    parts.append(_text((left + right) / 2, bottom + 38, x_name, "small mid"))
    for number, line in enumerate(series):
        parts += _drawn(line, _colour(line, number), [(places[x], scale(y)) for x, y in line.points if _has_place(y)])
    return _page(title, height, [*legend, *parts])


def _has_place(y: float) -> bool:
    return 0 < y < math.inf


def _colour(line: Line, number: int) -> str:
    return f"c{(number if line.colour is None else line.colour) % COLOURS}"


def _drawn(line: Line, colour: str, points: Sequence[tuple[float, float]]) -> Iterator[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="3 4"' if line.dashed else ""
    yield f'<polyline class="line {colour}" points="{path}"{dashes}/>'
    for x, y in points:
        yield f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>'


def _legend(series: Sequence[Line]) -> Iterator[str]:
    for place, line in enumerate(series):
        x, y = 20 + place % 3 * 245, 50 + place // 3 * 20
        dashes = ' stroke-dasharray="3 4"' if line.dashed else ""
        yield f'<line class="line {_colour(line, place)}" x1="{x}" x2="{x + 22}" y1="{y}" y2="{y}"{dashes}/>'
        yield _text(x + 29, y + 4, line.label, "small")


def _upright(x: float, top: float, bottom: float, said: str) -> Iterator[str]:
    yield f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{top:g}" y2="{bottom:g}"/>'
    yield _text(x, bottom + 16, said, "small mid")


def _text(x: float, y: float, said: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(said)}</text>'


def _page(title: str, height: float, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title, {chr(34): ""})}">'
    page = f'<rect class="page" width="{WIDTH}" height="{height:.0f}" rx="6"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", page, _text(16, 26, title, "title"), *parts, "</svg>", ""])
