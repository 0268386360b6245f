"""The charts of how a search went: the best so far, the learning curves, the rungs, and what is left to gain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from search.core.describe import describe_params, format_duration
from search.core.past import Scale
from search.page.plot import Axis, Plot, Point
from search.page.trials import TrialsView, is_number
from trainable.model_cost import name_cost

if TYPE_CHECKING:
    from search.core.outlook import Prospect

NUM_PROSPECTS, NUM_FRESH = 10, 3


def draw_history(view: TrialsView) -> str:
    """Every trial at its number, and the best so far as a step."""
    entries = sorted(view.drawn, key=lambda entry: entry.number)
    last = max((entry.number for entry in view.ranked), default=0)
    y = Axis.of(view.reach([_value(entry.best_value) for entry in entries]), view.axis_title)
    plot = Plot(
        Axis.of(Scale(0, max(last, 1)), "trial", num_ticks=8, is_whole=True), y, "The best trial so far", top=22
    )
    steps: list[Point] = []
    best = -math.inf if view.higher_is_better else math.inf
    for entry in entries:
        value = _value(entry.best_value)
        if value > best if view.higher_is_better else value < best:
            steps += [(entry.number, best), (entry.number, value)] if steps else [(entry.number, value)]
            best = value
    plot.line([*steps, (last, best)] if steps else [], "best")
    for entry in entries:
        plot.dot(entry.number, _value(entry.best_value), view.kind(entry), trial=entry.number, tip=view.tip(entry))
    return plot.to_svg()


def draw_curves(view: TrialsView) -> str:
    """The learning curves, those of the champion's members above the others."""
    last = max((entry.num_epochs for entry in view.drawn), default=1)
    values = [value for entry in view.drawn for value in entry.values.values()]
    x = Axis.of(Scale(1, max(last, 2)), "epoch", num_ticks=9, is_whole=True)
    plot = Plot(x, Axis.of(view.reach(values), view.axis_title), "Learning curves", top=22)
    for entry in sorted(view.drawn, key=lambda entry: entry.number in view.lit):
        curve = sorted(entry.values.items())
        plot.line(curve, view.kind(entry), trial=entry.number, tip=view.tip(entry))
    return plot.to_svg()


def draw_rungs(view: TrialsView) -> str:
    """Who came to which rung, what it was worth there, and who went on from it: a column a rung."""
    rungs = [level for level in view.levels if any(entry.num_epochs >= level for entry in view.drawn)]
    if not rungs:
        return ""
    scores = {
        entry.number: {rung: view.score(entry, rung) for rung in rungs if entry.num_epochs >= rung}
        for entry in view.drawn
    }
    y = Axis.of(view.reach([value for by_rung in scores.values() for value in by_rung.values()]), view.axis_title)
    x = Axis.of_names([f"{rung} epoch{'s' * (rung > 1)}" for rung in rungs])
    plot = Plot(x, y, "Rungs", width=1240, height=380, bottom=66, top=22)
    for entry in view.drawn:
        way = [(float(place), value) for place, value in enumerate(scores[entry.number].values())]
        if not way:
            continue
        way[-1] = way[-1][0] + _aside(entry.number) * min(len(rungs) / 4, 1), way[-1][1]
        kind, lit = view.kind(entry), " lit" * (entry.number in view.lit)
        if len(way) > 1:
            plot.line(way, f"promoted {kind}", trial=entry.number)
        for place, value in way[:-1]:
            plot.dot(place, value, f"passed{lit}", trial=entry.number, tip=view.tip(entry), radius=2.5)
        plot.dot(*way[-1], kind, trial=entry.number, tip=view.tip(entry), radius=4)
    counts = [sum(rung in by_rung for by_rung in scores.values()) for rung in rungs]
    for place, (came, went) in enumerate(pairwise([*counts, 0])):
        middle, _ = plot.at(place, y.scale.low)
        plot.text(middle, plot.height - 32, f"{came} came", "tick strong")
        last = place == len(rungs) - 1
        plot.text(middle, plot.height - 16, "" if last else f"{went} went on", "tick")
    return plot.to_svg()


def draw_trade_offs(view: TrialsView) -> list[str]:
    """For each cost a chart: what every trial costs and is worth, those that none beats joined."""
    return [drawn for cost in view.costs if (drawn := _draw_trade_off(view, cost))]


def _draw_trade_off(view: TrialsView, cost: str) -> str:
    there = [entry for entry in view.drawn if cost in entry.costs]
    if not there:
        return ""
    y = Axis.of(view.reach([_value(entry.best_value) for entry in there]), view.axis_title)
    plot = Plot(Axis.of(Scale.around([entry.costs[cost] for entry in there]), name_cost(cost)), y, cost, top=22)
    front = sorted((e.costs[cost], _value(e.best_value)) for e in there if e.number in view.front)
    plot.line(front, "best")
    for entry in there:
        place = entry.costs[cost], _value(entry.best_value)
        plot.dot(*place, view.kind(entry), trial=entry.number, tip=view.tip(entry))
    return plot.to_svg()


def draw_prospects(prospects: Sequence[Prospect], best: float, view: TrialsView) -> str:
    """What the model expects of the most promising next steps at the last epoch: mean and one standard deviation."""
    fresh = [prospect for prospect in prospects if prospect.number is None][:NUM_FRESH]
    begun = [prospect for prospect in prospects if prospect.number is not None]
    shown = sorted([*fresh, *begun[: NUM_PROSPECTS - len(fresh)]], key=lambda prospect: -prospect.rate)
    if not shown:
        return ""
    ends = [end for p in shown for end in (p.mean - p.deviation, p.mean + p.deviation)]
    margin = (max([*ends, best]) - min([*ends, best])) * 0.05
    x = Axis.of(Scale(min([*ends, best]) - margin, max([*ends, best]) + margin), f"{view.axis_title} at the last epoch")
    names = Axis(Scale(-0.5, len(shown) - 0.5))
    plot = Plot(x, names, "What the model expects", width=1240, height=62 + 26 * len(shown), left=440, right=230)
    plot.top = 18
    edge, _ = plot.at(best, 0)
    plot.path([(edge, plot.top), (edge, plot.height - plot.bottom)], "best")
    plot.text(edge, plot.top - 5, f"best now {best:.4f}", "tick strong")
    for row, prospect in enumerate(shown):
        place = len(shown) - 1 - row
        kind = "fresh" if prospect.number is None else "running"
        plot.line([(prospect.mean - prospect.deviation, place), (prospect.mean + prospect.deviation, place)], kind)
        _, y = plot.at(prospect.mean, place)
        tip = f"{prospect.mean:.4f} +- {prospect.deviation:.4f}"
        plot.dot(prospect.mean, place, f"{kind} full", trial=prospect.number, tip=tip, radius=4.5)
        who = "a new one" if prospect.number is None else f"trial {prospect.number} from epoch {prospect.epoch}"
        what = _describe(prospect, view)
        plot.text(plot.left - 14, y + 4, _shortened(f"{who}: {what}", 66), "tick", "end")
        gain = f"+{prospect.gain:.4f} expected"
        gain += f", {format_duration(prospect.seconds)}" if prospect.seconds else ""
        plot.text(plot.width - plot.right + 14, y + 4, gain, "tick", "start")
    return plot.to_svg(grid_x=True, grid_y=False)


def _describe(prospect: Prospect, view: TrialsView) -> str:
    """Its configuration in a few words; a trial's own, a new one's in the space's names."""
    known = {entry.number: entry.params for entry in view.ranked}
    params = dict(known.get(-1 if prospect.number is None else prospect.number, prospect.params))
    if "learning_rate_sgd" in params:
        params["learning_rate"] = params["learning_rate_sgd"]
    return f"{params.get('architecture', '')}, {describe_params(params)}".strip(", ")


def _aside(number: int) -> float:
    """Some way beside a column, so that trials of the same worth do not hide each other (golden ratio)."""
    return ((number * 0.618034) % 1 - 0.5) * 0.36


def _shortened(text: str, at_most: int) -> str:
    return text if len(text) <= at_most else text[: at_most - 1].rstrip(", ") + "…"


def _value(value: float | None) -> float:
    return float(value) if value is not None and is_number(value) else math.nan
