"""`ctsearch status`, `stop`, `try` and `extend`: a running search seen and steered from another process."""

from __future__ import annotations

import argparse
import ast
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.core import steering
from search.core.budget import read_spent
from search.core.budget_options import BudgetOptions
from search.core.config import OPTIONS
from search.core.describe import describe_params, format_duration
from search.core.extension import BUDGETS, read_recorded_config
from search.core.folder import Phase, SearchFolder, view_search
from search.core.option_values import whole
from search.core.options import read_arguments
from search.core.own_space import PLAIN, as_plain
from search.result import SearchResult
from trainable.report import Direction

ANSWER_S = 60.0


def steer(args: argparse.Namespace, home: Path) -> int:
    """Carry out a command line; its exit status."""
    if args.command == "status":
        status = read_status(home, args.name)
        print(json.dumps(status) if args.json else describe(status))
        return 0
    if args.command == "stop":
        print(stop(home, args.name, args.trial))
    elif args.command == "try":
        print(try_next(home, args.name, read_params(args.params)))
    else:
        given = read_arguments(args, {name: OPTIONS[name] for name in BUDGETS})
        print(extend(home, args.name, given))
    return 0


def read_status(home: Path, name: str) -> dict[str, Any]:
    """Where a search stands, as plain values: read from its records, whether it runs or not. Times are in seconds."""
    folder = view_search(home, name)
    result = SearchResult.read(folder)
    config = read_recorded_config(folder)
    wall_s, device_s = read_spent(folder.spent_file)
    is_running = folder.is_running
    direction = Direction.of(config.metric)
    ranked = direction.rank((entry.best_value, entry.number, entry) for entry in result.trials if entry.values)
    best = ranked[0] if ranked else None
    without = "running" if is_running else "waiting"
    return {
        "name": name,
        "folder": str(folder.folder),
        "phase": str(folder.phase),
        "is_running": is_running,
        "stop_reason": result.stop_reason,
        "trials": dict(Counter(without if entry.state == "running" else entry.state for entry in result.trials)),
        "epochs": sum(len(entry.values) for entry in result.trials),
        "wall_s": wall_s,
        "device_s": device_s,
        "budget": {name: getattr(config, name) for name in BUDGETS},
        "metric": config.metric,
        "best": best and {"trial": best.number, "value": best.best_value, "params": dict(best.params)},
        "champion": result.champion and {"trial": result.champion.trial, "version": result.champion.version},
        "tracking_url": result.tracking_url,
    }


def describe(status: Mapping[str, Any]) -> str:
    """A few lines for a person."""
    budget = status["budget"]
    limits = [
        f"{budget['num_trials']} trials" if budget["num_trials"] else "",
        format_duration(budget["time_budget_s"]) if budget["time_budget_s"] else "",
        f"{budget['device_hours']:g} device-hours" if budget["device_hours"] else "",
    ]
    state = "running" if status["is_running"] else "not running"
    trials = ", ".join(f"{number} {outcome}" for outcome, number in sorted(status["trials"].items())) or "none yet"
    lines = [
        f"{status['name']}  {status['phase']}, {state}" + (f": {status['stop_reason']}" * bool(status["stop_reason"])),
        f"Trials    {trials}; {status['epochs']} epochs",
        f"Spent     {format_duration(status['wall_s'])}, {status['device_s'] / 3600:.2f} device-hours"
        + (f"; of {', '.join(filter(None, limits))}" if any(limits) else ""),
    ]
    if (best := status["best"]) is not None:
        architecture = best["params"].get("architecture", "")
        best_line = f"trial {best['trial']}, val {status['metric']} {best['value']:.4f}"
        lines.append(f"Best      {best_line}, {architecture}, {describe_params(best['params'])}")
    if (champion := status["champion"]) is not None:
        lines.append(f"Champion  trial {champion['trial']}, version {champion['version'] or 'not registered'}")
    return "\n".join([*lines, f"MLflow    {status['tracking_url']}"])


def stop(home: Path, name: str, trial: int | None = None) -> str:
    """End a search with its champion so far, or one trial of it."""
    if trial is None:
        return ask(home, name, "stop")
    try:
        number = whole(trial)
    except ValueError as error:
        raise ValueError(f"trial is {trial!r}; {error}") from None
    return ask(home, name, "stop-trial", trial=number)


def try_next(home: Path, name: str, params: Mapping[str, Any]) -> str:
    """Let a search try a configuration next; what is not given is drawn."""
    if not params:
        raise ValueError("no hyperparameter is given; give some, such as lr=3e-4")
    return ask(home, name, "try", params={param: _take_plain(param, value) for param, value in params.items()})


def extend(home: Path, name: str, budget: Mapping[str, Any]) -> str:
    """Give a search a larger budget, in all."""
    given = {name: value for name, value in budget.items() if value is not None}
    if not given:
        raise ValueError("no budget is given; give --num-trials, --time-budget or --gpu-hours")
    BudgetOptions(**given).check_budget()
    return ask(home, name, "extend", budget=given)


def ask(home: Path, name: str, verb: str, *, timeout_s: float = ANSWER_S, **content: Any) -> str:
    """What the driver of a running search answers. Raises ValueError where it refuses, or nobody is there to ask."""
    folder = view_search(home, name)
    _require_trials(folder)
    given = steering.wait_for_answer(steering.ask(folder.folder, verb, **content), timeout_s)
    if given is None:
        _require_trials(folder)
        return f"the driver of {name} has not answered in {timeout_s:g} s; it does so as soon as it can"
    if not given.done:
        raise ValueError(given.text)
    return given.text


def _require_trials(folder: SearchFolder) -> None:
    """Only while its trials run can a search be steered."""
    name, phase = folder.name, folder.phase
    if not folder.is_running:
        goes_on = "has ended" if phase is Phase.ENDED else "is not running"
        raise ValueError(f"the search {name!r} {goes_on}; `ctsearch search --resume {name}` goes on with it")
    if phase is Phase.PREPARING:
        raise ValueError(f"the search {name!r} is still preparing its first trial; ask again in a moment")
    if phase is not Phase.SEARCHING:
        raise ValueError(f"the search {name!r} is choosing its champion: its trials have ended")


def read_params(given: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE texts: numbers and booleans as such, everything else as text. Raises ValueError."""
    params: dict[str, Any] = {}
    for entry in given:
        name, equals, text = entry.partition("=")
        if not (name and equals and text):
            raise ValueError(f"{entry!r} is no hyperparameter; give NAME=VALUE, such as lr=3e-4")
        if name in params:
            raise ValueError(f"{name} is given twice; give it once")
        try:
            value = ast.literal_eval({"true": "True", "false": "False"}.get(text.lower(), text))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            value = text
        params[name] = _take_plain(name, value)
    return params


def _take_plain(name: str, value: Any) -> Any:
    """What a configuration may hold. Raises ValueError for anything else."""
    plain = as_plain(value)
    if not isinstance(plain, PLAIN) or (isinstance(plain, float) and not math.isfinite(plain)):
        raise ValueError(f"{name} is {value!r}; it must be a finite number, true or false, or a text")
    return plain
