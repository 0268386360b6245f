"""The charts of the space: importances, parallel coordinates, and a slice for each hyperparameter."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from search.core.ledger import TrialEntry
from search.core.past import Scale
from search.page.plot import Axis, Plot, Point
from search.page.trials import TrialsView

NUM_AXES, NUM_SLICES = 9, 12
LEAST_SHARE = 0.005
SHADES = 9
"""The colours of parallel coordinates, from the worst to the best."""


def draw_importances(importances: Mapping[str, float]) -> str:
    """A bar a hyperparameter."""
    shown = [(name, share) for name, share in importances.items() if share >= LEAST_SHARE]
    ranked = sorted(shown, key=lambda item: -item[1])[:NUM_SLICES]
    if not ranked:
        return ""
    plot = Plot(Axis(Scale(0, 1)), Axis(Scale(0, 1)), "Importances", height=24 * len(ranked) + 12, left=150)
    widest = max(share for _, share in ranked) or 1.0
    for row, (name, share) in enumerate(ranked):
        y = 6 + 24 * row
        length = share / widest * (plot.width - plot.left - 70)
        plot.box(plot.left, y, max(length, 1.5), 16, "bar", f"{name}: {share:.3f}")
        plot.text(plot.left - 10, y + 12, name, "tick", "end")
        plot.text(plot.left + length + 8, y + 12, f"{share:.0%}", "tick strong", "start")
    return plot.to_svg()


def draw_parallel(view: TrialsView, importances: Mapping[str, float]) -> str:
    """A line a trial through all that it drew, darker the better it was; what it has not drawn lies below the axis."""
    names = view.varied(NUM_AXES, importances)
    if len(names) < 2 or len(view.drawn) < 2:
        return ""
    plot = Plot(Axis.of_names([*names, view.metric]), Axis(Scale(0, 1)), "Parallel coordinates", width=1240, height=380)
    plot.left, plot.right, plot.bottom = 20, 20, 70
    values = [float(entry.best_value or 0.0) for entry in view.drawn]
    scales: dict[str, Scale | list[str]] = {name: view.scale_of(name) for name in names}
    scales[view.metric] = view.reach(values)
    floor = plot.height - plot.bottom + 18

    def placed(column: int, name: str, value: Any) -> Point:
        x, bottom = plot.at(column, 0)
        if value is None:
            return x, floor
        _, y = plot.at(column, _share(scales[name], value))
        return x, min(y, bottom)

    for place, entry in enumerate(view.drawn):
        shade = SHADES - 1 - (len(view.drawn) - 1 - place) * SHADES // len(view.drawn)
        way = [placed(column, name, entry.params.get(name)) for column, name in enumerate(names)]
        way.append(placed(len(names), view.metric, entry.best_value))
        plot.path(_smooth(way), f"shade s{shade}", trial=entry.number, tip=view.tip(entry))
    for column, name in enumerate([*names, view.metric]):
        _draw_axis(plot, column, name, scales[name], is_whole=view.is_whole(name))
    plot.x = Axis(plot.x.scale)
    return plot.to_svg(grid_y=False)


def _draw_axis(plot: Plot, column: int, name: str, scale: Scale | list[str], *, is_whole: bool) -> None:
    x, bottom = plot.at(column, 0)
    plot.path([(x, plot.top), (x, bottom)], "axis")
    plot.text(x, plot.height - 18, name, "tick strong")
    is_last = column == round(plot.x.scale.high - 0.5)
    side, anchor = (-6, "end") if is_last else (6, "start")
    if isinstance(scale, list):
        ticks = [(_share(scale, text), text) for text in scale[:14]]
    else:
        ticks = [(_share(scale, value), text) for value, text in Axis.of(scale, is_whole=is_whole).ticks]
    for share, text in ticks:
        _, y = plot.at(column, share)
        plot.text(x + side, y + 3.5, text, "tick halo", anchor)


def draw_slices(view: TrialsView, importances: Mapping[str, float]) -> list[str]:
    """Small charts: the value of every trial over one hyperparameter, the important ones first."""
    reach = view.reach([float(entry.best_value or 0.0) for entry in view.drawn])
    return [_draw_slice(view, name, reach) for name in view.varied(NUM_SLICES, importances)]


def _draw_slice(view: TrialsView, name: str, reach: Scale) -> str:
    scale = view.scale_of(name)
    x = (
        Axis.of_names(scale, name)
        if isinstance(scale, list)
        else Axis.of(scale, name, num_ticks=4, is_whole=view.is_whole(name))
    )
    if isinstance(scale, list):
        x = Axis(x.scale, name, [(value, _short(text, len(scale))) for value, text in x.ticks])
    plot = Plot(x, Axis.of(reach, num_ticks=4), name, width=300, height=200, left=44, bottom=38)
    spread = random.Random(0)  # so that dots of a category do not hide each other
    for entry in view.drawn:
        if name not in entry.params:
            continue
        at = _place(scale, entry, name) + (spread.uniform(-0.22, 0.22) if isinstance(scale, list) else 0.0)
        plot.dot(
            at, float(entry.best_value or 0.0), view.kind(entry), trial=entry.number, tip=view.tip(entry), radius=3
        )
    return plot.to_svg()


def _place(scale: Scale | list[str], entry: TrialEntry, name: str) -> float:
    value = entry.params[name]
    return float(scale.index(str(value))) if isinstance(scale, list) else float(value)


def _short(text: str, num: int) -> str:
    room = max(4, 44 // num)
    return text if len(text) <= room else text[: room - 1] + "…"


def _share(scale: Scale | list[str], value: Any) -> float:
    """How far up an axis a value lies, 0 to 1."""
    if isinstance(scale, list):
        return (scale.index(str(value)) + 0.5) / len(scale)
    return scale.place(float(value))


def _smooth(way: list[Point]) -> list[Point]:
    """A way with short level pieces at the axes, which the eye follows more easily through a crowd."""
    return [point for x, y in way for point in ((x - 10, y), (x + 10, y))]
