"""The page itself: one HTML file with its style, its charts and its script in it; nothing is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from search.page.charts import draw_curves, draw_history, draw_prospects, draw_rungs, draw_trade_offs
from search.page.space_charts import draw_importances, draw_parallel, draw_slices
from search.page.style import SCRIPT, STYLE
from search.page.trials import TrialsView, is_number
from trainable.report import Outcome

if TYPE_CHECKING:
    from search.core.outlook import Foresight

NUM_ROWS = 500
STATES = (*map(str, Outcome), "paused", "running")


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A figure at the top of the page: what it is, its value, and a few words beneath."""

    what: str
    value: str
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class PageParts:
    """What the page shows beside the trials.

    `badge` says how far the search has come, `line` what it was asked for. `champion` are facts by name. `foresight`
    is the model's view, `outlook` the same in one sentence. `footer` stands at the end.
    """

    name: str
    badge: str
    is_running: bool = False
    line: str = ""
    tiles: Sequence[Tile] = ()
    champion: Mapping[str, str] = field(default_factory=dict)
    importances: Mapping[str, float] = field(default_factory=dict)
    foresight: Foresight | None = None
    outlook: str = ""
    tracking_url: str = ""
    footer: str = ""


def build_page(view: TrialsView, parts: PageParts) -> str:
    """The page as HTML. Whatever the trials hold, a page comes out: what cannot be drawn is left away."""
    foresight = parts.foresight
    prospects = draw_prospects(foresight.prospects, foresight.best, view) if foresight else ""
    importances = draw_importances(parts.importances)
    trade_offs = draw_trade_offs(view)
    slices = draw_slices(view, parts.importances)
    sections = [
        f'<div class="tiles">{"".join(map(_tile, parts.tiles))}</div>',
        _legend(view),
        _card("Champion", "", _facts(parts.champion)) if parts.champion else "",
        '<div class="two">',
        _card("The best so far", "Each trial at its number, and the best of all as a line.", draw_history(view)),
        _card("Learning curves", "One line a trial: validation after each epoch.", draw_curves(view)),
        "</div>",
        _card("Trade-off", _TRADE_OFF, f'<div class="two">{"".join(trade_offs)}</div>') if trade_offs else "",
        _card("Rungs", _RUNGS, draw_rungs(view)),
        _card("What is left to gain", parts.outlook, prospects) if parts.outlook else "",
        _card("Parallel coordinates", _PARALLEL, draw_parallel(view, parts.importances)),
        _card("Importances", _IMPORTANCES, importances and f'<div class="narrow">{importances}</div>'),
        _card("Slices", _SLICES, f'<div class="many">{"".join(slices)}</div>') if slices else "",
        _card("Leaderboard", _rows_note(view), _leaderboard(view, parts.importances)),
    ]
    badge = f'<span class="badge {"running" if parts.is_running else "ended"}">{escape(parts.badge)}</span>'
    link = parts.tracking_url
    mlflow = f' · <a href="{escape(link)}">in MLflow</a>' if link.startswith(("http://", "https://")) else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(parts.name)}</title><style>{STYLE}</style></head><body><main>"
        f'<header><h1>{escape(parts.name)}</h1>{badge}</header><p class="sub">{escape(parts.line)}{mlflow}</p>'
        f"{''.join(sections)}<footer>{escape(parts.footer)}</footer></main><script>{SCRIPT}</script></body></html>\n"
    )


_RUNGS = (
    "At a rung trials of equal length are compared. Small dots went on from there; large ones are where a trial "
    "stands: paused, stopped, completed."
)
_TRADE_OFF = (
    "What each model costs whoever uses it, and what it is worth; no trial beats those on the line in everything."
)
_PARALLEL = "A line a trial, the best tenth in red. What a trial has not drawn lies below its axis."
_IMPORTANCES = "Each hyperparameter's share in what separates good trials from the others (PED-ANOVA, all trials)."
_SLICES = "The best value of each trial over one hyperparameter at a time."


def _tile(tile: Tile) -> str:
    words = f"<span>{escape(tile.words)}</span>" if tile.words else ""
    return f'<div class="tile"><span class="what">{escape(tile.what)}</span><b>{escape(tile.value)}</b>{words}</div>'


def _card(title: str, note: str, body: str) -> str:
    if not body:
        return ""
    paragraph = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<section class="card"><h2>{escape(title)}</h2>{paragraph}{body}</section>'


def _facts(facts: Mapping[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(text)}</dd>' for name, text in facts.items())}</dl>"


def _legend(view: TrialsView) -> str:
    """The states that occur, and who is lit."""
    there = {entry.state for entry in view.ranked}
    marks = [f'<span class="{state}"><i></i>{state}</span>' for state in STATES if state in there]
    who = "members of the champion" if view.members else "the best three"
    lit = f'<span style="--c:var(--lit)"><i></i>{who}</span>' if view.lit else ""
    hint = "<span>Point at a trial to see it everywhere; click to hold it.</span>" if view.drawn else ""
    return f'<div class="legend">{"".join(marks)}{lit}{hint}</div>'


def _rows_note(view: TrialsView) -> str:
    left = len(view.ranked) - NUM_ROWS
    more = f" The other {left} are in leaderboard.csv." if left > 0 else ""
    return f"Best first, by {view.axis_title} averaged over a trial's last epochs. Click a heading to sort.{more}"


def _leaderboard(view: TrialsView, importances: Mapping[str, float]) -> str:
    if not view.ranked:
        return '<p class="note">No trial has begun yet.</p>'
    names = view.varied(100, importances)
    titles = ["trial", view.metric, "best epoch", "epochs", "state", *view.costs, *names]
    numeric = [True, True, True, True, False, *(True for _ in view.costs), *(_is_numeric(view, name) for name in names)]
    heads = "".join(
        f"<th{_numeric(is_numeric)}>{escape(title)}</th>" for title, is_numeric in zip(titles, numeric, strict=True)
    )
    rows = []
    for entry in view.ranked[:NUM_ROWS]:
        values = [entry.number, entry.best_value, entry.best_epoch, entry.num_epochs, entry.state]
        values += [entry.costs.get(name) for name in view.costs]
        values += [entry.params.get(name) for name in names]
        cells = "".join(_cells(values, numeric))
        lit = ' class="lit"' if entry.number in view.lit else ""
        rows.append(f'<tr data-t="{entry.number}"{lit} title="{escape(entry.error or "")}">{cells}</tr>')
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _cells(values: Sequence[Any], numeric: Sequence[bool]) -> Iterable[str]:
    for column, (value, is_numeric) in enumerate(zip(values, numeric, strict=True)):
        if isinstance(value, str) and value in STATES:
            yield f'<td><span class="chip {value}">{value}</span></td>'
        elif is_number(value):
            text = f"{value:{'.4f' if column == 1 else '.4g'}}" if isinstance(value, float) else str(value)
            yield f'<td{_numeric(is_numeric)} data-v="{value}">{text}</td>'
        else:
            yield f"<td{_numeric(is_numeric)}>{'' if value is None else escape(str(value))}</td>"


def _is_numeric(view: TrialsView, name: str) -> bool:
    return all(is_number(entry.params[name]) for entry in view.ranked if name in entry.params)


def _numeric(is_numeric: bool) -> str:
    return ' class="n"' if is_numeric else ""
