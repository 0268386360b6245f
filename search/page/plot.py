"""Plot: a chart as inline SVG, with axes, lines, dots and a tooltip for each; no script and no library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from search.core.past import Scale

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """What an axis shows: its range, its ticks as (value, text), and its title."""

    scale: Scale
    title: str = ""
    ticks: Sequence[tuple[float, str]] = ()

    @classmethod
    def of(cls, scale: Scale, title: str = "", *, num_ticks: int = 5, is_whole: bool = False) -> Axis:
        """With round ticks, and whole ones where only these occur; a range of nothing is widened."""
        if scale.high <= scale.low:
            margin = abs(scale.low) * 0.05 or 0.5
            scale = Scale(scale.low - margin, scale.high + margin)
        values = log_ticks(scale, num_ticks) if scale.is_log else even_ticks(scale, num_ticks)
        shown = [value for value in values if not is_whole or value == round(value)]
        return cls(scale, title, [(value, show_number(value)) for value in shown])

    @classmethod
    def of_names(cls, names: Sequence[str], title: str = "") -> Axis:
        """Categories, each at its place from 0 on."""
        return cls(Scale(-0.5, len(names) - 0.5), title, list(enumerate(names)))


def even_ticks(scale: Scale, at_most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (scale.high - scale.low) / at_most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(scale.low / step - 1e-9)
    return [number * step for number in range(first, math.floor(scale.high / step + 1e-9) + 1)]


def log_ticks(scale: Scale, at_most: int) -> list[float]:
    """Powers of ten; where fewer than two lie in the range, its ends."""
    powers = range(math.ceil(math.log10(scale.low) - 1e-9), math.floor(math.log10(scale.high) + 1e-9) + 1)
    thinned = list(powers)[:: max(1, -(-len(powers) // at_most))]
    return [10.0**power for power in thinned] if len(thinned) > 1 else [scale.low, scale.high]


def show_number(value: float) -> str:
    """A number in few characters."""
    text = f"{value:.3g}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.0e}"
    return text.replace("e-0", "e-").replace("e+0", "e")


@dataclass
class Plot:
    """A chart of `width` x `height` pixels, scaled to where it stands. Its parts are drawn in the order of the calls.

    A part with a `trial` is lit up with all others of this trial when the mouse is on one of them.
    """

    x: Axis
    y: Axis
    label: str
    width: float = 620
    height: float = 300
    left: float = 52
    bottom: float = 40
    top: float = 12
    right: float = 14
    parts: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> Point:
        """Where a value lies, in pixels; what is outside of the range lies on its edge."""
        across, up = (min(max(axis.scale.place(v), 0.0), 1.0) for axis, v in ((self.x, x), (self.y, y)))
        inner_height = self.height - self.top - self.bottom
        return self.left + across * (self.width - self.left - self.right), self.top + (1 - up) * inner_height

    def line(self, points: Iterable[Point], kind: str, *, trial: int | None = None, tip: str = "") -> None:
        """A line through values; those that are no numbers are passed over."""
        placed = [self.at(x, y) for x, y in points if math.isfinite(y)]
        if len(placed) == 1:
            self.dot_at(placed[0], kind, trial=trial, tip=tip, radius=2)
        elif placed:
            self.path(placed, kind, trial=trial, tip=tip)

    def path(self, placed: Sequence[Point], kind: str, *, trial: int | None = None, tip: str = "") -> None:
        """The same through pixels."""
        way = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        self.parts.append(f'<path d="M{way}" class="line {kind}"{_of(trial)}>{_tip(tip)}</path>')

    def dot(
        self, x: float, y: float, kind: str, *, trial: int | None = None, tip: str = "", radius: float = 3.5
    ) -> None:
        if math.isfinite(y):
            self.dot_at(self.at(x, y), kind, trial=trial, tip=tip, radius=radius)

    def dot_at(self, placed: Point, kind: str, *, trial: int | None, tip: str = "", radius: float = 3.5) -> None:
        x, y = placed
        shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="dot {kind}"{_of(trial)}>'
        self.parts.append(f"{shape}{_tip(tip)}</circle>")

    def box(self, x: float, y: float, width: float, height: float, kind: str, tip: str = "") -> None:
        """A bar, in pixels."""
        place = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
        self.parts.append(f'<rect {place} rx="2" class="{kind}">{_tip(tip)}</rect>')

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> None:
        """Words, in pixels."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>')

    def to_svg(self, *, grid_x: bool = False, grid_y: bool = True) -> str:
        """The chart, its axes beneath all else."""
        view = f'viewBox="0 0 {self.width:g} {self.height:g}"'
        body = "".join([*self._axes(grid_x, grid_y), *self.parts])
        return f'<svg {view} role="img" aria-label="{escape(self.label)}">{body}</svg>'

    def _axes(self, grid_x: bool, grid_y: bool) -> list[str]:
        bottom, right = self.height - self.bottom, self.width - self.right
        drawn = Plot(self.x, self.y, "", self.width, self.height, self.left, self.bottom, self.top, self.right)
        for value, text in self.y.ticks:
            _, y = self.at(0.0 if not self.x.scale.is_log else self.x.scale.low, value)
            if grid_y:
                drawn.parts.append(f'<path d="M{self.left} {y:.1f}H{right:g}" class="grid"/>')
            drawn.text(self.left - 7, y + 3.5, text, "tick", "end")
        for value, text in self.x.ticks:
            x, _ = self.at(value, self.y.scale.low)
            if grid_x:
                drawn.parts.append(f'<path d="M{x:.1f} {self.top}V{bottom:g}" class="grid"/>')
            drawn.text(x, bottom + 16, text, "tick")
        if self.x.title:
            drawn.text((self.left + right) / 2, self.height - 6, self.x.title, "title")
        if self.y.title:
            drawn.text(self.left, self.top - 3, self.y.title, "title", "start")
        return drawn.parts


def _of(trial: int | None) -> str:
    return "" if trial is None else f' data-t="{trial}"'


def _tip(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""
