from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from search.core import own_space
from search.core.own_space import SpaceError, load_own_space, settle
from search.core.space import configuration_of, load_space
from search.core.space_visits import check_own_space
from search.engine.fit import explain_break
from search.engine.space_probe import check_space
from search.engine.study import Study
from trainable.config import TrialConfig
from trainable.report import Direction


def try_space(text: str, folder: Path) -> int:
    """How many draws it took."""
    file = folder / "my_space.py"
    file.write_text(text)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def ask(point: Mapping[str, Any]) -> optuna.Trial:
        study.enqueue_trial(dict(point))
        return study.ask()

    return check_own_space(load_own_space(file), ask)


def refusal(text: str, folder: Path) -> str:
    with pytest.raises(ValueError) as caught:
        try_space(text, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


HEAD = "import numpy as np\n\n\ndef space(trial):\n"

FAULTS = {
    "line 5: batch_size is 12.5; it must be a whole number": (
        "    return {'architecture': 'resnet18', 'batch_size': 12.5}"
    ),
    "line 5: class_weighting is 'False'; it must be True or False": (
        "    return {'architecture': 'resnet18', 'class_weighting': 'False'}"
    ),
    "line 5: learning_rate is 'fast'; it must be a number": (
        "    return {'architecture': 'resnet18', 'learning_rate': 'fast'}"
    ),
    "line 5: learning_rate is True; it must be a number": (
        "    return {'architecture': 'resnet18', 'learning_rate': True}"
    ),
    "line 5: dropout is nan; it must be a number": "    return {'architecture': 'resnet18', 'dropout': float('nan')}",
    "line 5: optimizer is 3; it must be a text": "    return {'architecture': 'resnet18', 'optimizer': 3}",
    "line 5: optimizer is 'adm'": "    return {'architecture': 'resnet18', 'optimizer': 'adm'}",
    "line 5: unknown hyperparameter learning_rat; did you mean 'learning_rate'?": (
        "    return {'architecture': 'resnet18', 'learning_rat': 1e-3}"
    ),
    "line 5: architecture is 'resnet-18'; did you mean 'resnet18'": "    return {'architecture': 'resnet-18'}",
    "line 5: the configuration has no architecture": "    return {'learning_rate': 1e-3}",
    "line 5: the space returned list": "    return ['resnet18']",
    "line 5: dropout is array": "    return {'architecture': 'resnet18', 'dropout': np.zeros(2)}",
    "line 5: KeyError: 'rate'": "    return {'architecture': 'resnet18', 'learning_rate': {}['rate']}",
    "line 5: SystemExit: 3": "    raise SystemExit(3)",
    "line 5: ZeroDivisionError": "    return {'architecture': 'resnet18', 'dropout': 1 / 0}",
    "line 5: ValueError": "    trial.suggest_int('cnn_depth', 5, 2)\n    return {}",
    "line 5: ValueError: optimizer has its choices in a set": (
        "    return {'architecture': 'resnet18', 'optimizer': trial.suggest_categorical('optimizer', {'adam', 'sgd'})}"
    ),
    "line 5: ValueError: pair has the choice (1, {2}), a tuple; choices must be numbers": (
        "    trial.suggest_categorical('pair', [(1, {2}), (3, {4})])\n    return {}"
    ),
    "line 5: learning_rate is 1000": "    return {'architecture': 'resnet18', 'learning_rate': 10 ** 400}",
    "line 5: ValueError: f has the choice <ufunc 'exp'>, a ufunc": (
        "    trial.suggest_categorical('f', [np.exp, np.sqrt])\n    return {}"
    ),
    "line 5: architecture is 'my_model.py:build'; a model of your own goes by --arch": (
        "    return {'architecture': 'my_model.py:build'}"
    ),
    "line 5: architecture is 'tim:resnet18'": "    return {'architecture': 'tim:resnet18'}",
}


@pytest.mark.parametrize("output", FAULTS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_fault_is_one_line_with_file_and_line(output: str, tmp_path: Path) -> None:
    assert f"my_space.py, {output}" in refusal(HEAD + FAULTS[output] + "\n", tmp_path)


def test_what_is_surely_meant_is_cast() -> None:
    drawn = {
        "architecture": np.str_("resnet18"),
        "batch_size": 32.0,
        "cnn_depth": np.float32(3),
        "cnn_filters": np.int64(16),
        "learning_rate": "1e-3",
        "dropout": np.float64(0.25),
        "momentum": 0,
        "head_depth": "2",
        "class_weighting": np.bool_(True),
    }
    settled = settle(drawn)
    assert [type(value) for value in settled.values()] == [str, int, int, int, float, float, float, int, bool]
    assert settled["learning_rate"] == 1e-3 and settled["class_weighting"] is True
    assert TrialConfig.from_params(configuration_of(drawn, {})) == TrialConfig.from_params(settled)


def test_what_nobody_knows_is_left_as_it_is() -> None:
    assert settle({"height": "tall"}) == {"height": "tall"}


def test_an_error_in_one_rare_branch_is_found(tmp_path: Path) -> None:
    """At random it would be met once in a hundred and fifty draws."""
    text = HEAD + (
        "    name = trial.suggest_categorical('architecture', ['resnet18', 'vgg16', 'small_cnn', 'densenet121'])\n"
        "    optimizer = trial.suggest_categorical('optimizer', ['adam', 'adamw', 'sgd', 'rmsprop'])\n"
        "    depth = trial.suggest_int('head_depth', 0, 4)\n"
        "    if name == 'small_cnn':\n"
        "        kernel = trial.suggest_int('cnn_kernel', 1, 15)\n"
        "        if kernel == 15:\n"
        "            return {'architecture': name, 'pooling': 'none'}\n"
        "    return {'architecture': name, 'optimizer': optimizer, 'head_depth': depth}\n"
    )
    assert "line 11: pooling is 'none'" in refusal(text, tmp_path)


def test_every_choice_and_both_ends_of_every_range_are_drawn(tmp_path: Path) -> None:
    text = HEAD + (
        "    drawn.append(trial)\n"
        "    architecture = trial.suggest_categorical('architecture', ['resnet18', 'small_cnn'])\n"
        "    config = {'architecture': architecture, 'dropout': trial.suggest_float('dropout', 0, 0.5)}\n"
        "    if architecture == 'small_cnn':\n"
        "        config['cnn_depth'] = trial.suggest_int('cnn_depth', 2, 4)\n"
        "        config['pooling'] = trial.suggest_categorical('pooling', ['avg', 'max', 'grid'])\n"
        "    return config\n"
        "drawn = []\n"
    )
    file = tmp_path / "space.py"
    file.write_text(text)
    space = load_own_space(file)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def ask(point: Mapping[str, Any]) -> optuna.Trial:
        study.enqueue_trial(dict(point))
        return study.ask()

    assert 64 <= check_own_space(space, ask) <= 80
    seen: dict[str, set[Any]] = {}
    for trial in study.trials:
        for name, value in trial.params.items():
            seen.setdefault(name, set()).add(value)
    assert seen["architecture"] == {"resnet18", "small_cnn"} and seen["pooling"] == {"avg", "max", "grid"}
    assert {0.0, 0.5} <= seen["dropout"] and {2, 4} <= seen["cnn_depth"]


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("import helper\n\n\ndef space(trial):\n    return helper.space(trial)\n", "line 1: ModuleNotFoundError"),
        ("from helper import x\n\n\ndef space(trial):\n    return {}\n", "helper lies beside my_space.py"),
        ("from . import helper\n\n\ndef space(trial):\n    return {}\n", "line 1: ImportError"),
        ("x = 1\nraise RuntimeError('no\\nway')\ndef space(trial):\n    return {}\n", "line 2: RuntimeError: no"),
        ("space = 3\n", "its `space` is a int"),
    ],
)
def test_a_file_that_cannot_be_run_is_one_line(text: str, output: str, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("x = 1\n")
    assert output in refusal(text, tmp_path)


def test_the_users_own_path_is_shown_where_a_copy_is_loaded(tmp_path: Path) -> None:
    copy, own = tmp_path / "space.py", Path("/home/ana/my_space.py")
    copy.write_text("def space(trial):\n    raise KeyError('x')\n")
    with pytest.raises(ValueError, match=r"/home/ana/my_space.py, line 2: KeyError"):
        check_space(load_space(copy, shown=own))


def test_a_class_and_a_dataclass_in_the_file_work(tmp_path: Path) -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n@dataclass\nclass Rates:\n"
        "    low: float = 1e-4\n\n\ndef space(trial):\n    trial.suggest_float('learning_rate', Rates().low, 1e-2)\n"
        "    trial.suggest_categorical('architecture', ['resnet18'])\n"
    )
    assert try_space(text, tmp_path) >= 24


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        (
            "    return {'architecture': trial.suggest_categorical('architecture', ['small_cnn', 'resnet18']),\n"
            "            'pooling': 'grid'}\n",
            "line 6: pooling is 'grid', which small_cnn alone has; resnet18 takes avg, max or avg_max",
        ),
        (
            "    depth = trial.suggest_int('head_depth', 0, 2)\n"
            "    return {'architecture': 'squeezenet1_1', 'head_depth': depth}\n",
            "line 5: head_depth is [12]; squeezenet1_1 ends in no linear layer: give 0",
        ),
        (
            "    return {'architecture': 'small_cnn', 'cnn_depth': 4,\n"
            "            'cnn_pool': trial.suggest_int('cnn_pool', 2, 3)}\n",
            "line 5: small_cnn needs images of 81 px or more, got 64",
        ),
    ],
)
def test_a_model_that_cannot_be_built_is_refused_at_the_door(text: str, refused: str, tmp_path: Path) -> None:
    file = tmp_path / "my_space.py"
    file.write_text(HEAD + text)
    with pytest.raises(ValueError, match=f"--space .*my_space.py, {refused}"):
        check_space(load_space(file), image_size=64)


@pytest.mark.filterwarnings("ignore:Choices for a categorical")
def test_choices_of_numpy_are_pythons_and_a_journal_keeps_them(tmp_path: Path) -> None:
    file = tmp_path / "space.py"
    file.write_text(
        HEAD + "    trial.suggest_categorical('architecture', np.array(['resnet18', 'vgg16']))\n"
        "    trial.suggest_categorical('batch_size', list(2 ** np.arange(3, 6)))\n"
        "    trial.suggest_categorical('class_weighting', [np.True_, np.False_])\n"
        "    rate, decay = trial.suggest_categorical('pair', [(1e-3, 0.1), (1e-4, 0.01)])\n"
        "    dropout = trial.suggest_categorical('dropout', [np.float32(0.25), np.float64(0.5)])\n"
        "    drawn = {name: trial.params[name] for name in ('architecture', 'batch_size', 'class_weighting')}\n"
        "    return drawn | {'learning_rate': rate, 'weight_decay': decay, 'dropout': dropout}\n"
    )
    space = load_space(file)
    assert check_space(space) >= 24
    study = Study(tmp_path / "optuna.journal", sampler="random", seed=0, direction=Direction.MAXIMIZE)
    begun = [study.begin(space) for _ in range(3)]  # type: ignore[arg-type]
    assert {type(value) for value in begun[0].params.values()} == {str, int, bool, float}
    again = Study(tmp_path / "optuna.journal", sampler="random", seed=0, direction=Direction.MAXIMIZE)
    assert [trial.params["batch_size"] for trial in again.trials()] == [one.drawn["batch_size"] for one in begun]
    again.begin(space)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (HEAD + "    while True:\n        pass\n", r"line [56]: TimeoutError: no end came within 0\.2 s"),
        (HEAD + "    input('rate? ')\n", "line 5: "),
        (HEAD + "    import time; time.sleep(1000)\n", "line 5: TimeoutError"),
        ("while True:\n    pass\n\n\ndef space(trial):\n    return {}\n", r"line [12]: TimeoutError"),
    ],
)
def test_what_never_ends_is_one_line(text: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_space, "LOAD_S", 0.2)
    monkeypatch.setattr(own_space, "DRAW_S", 0.2)
    assert re.search(f"my_space.py, {line}", refusal(text, tmp_path))


def test_a_space_that_fails_while_trials_run_says_how_to_go_on(tmp_path: Path) -> None:
    """Tune wraps what its searcher raises."""
    tune_error = RuntimeError("The Ray Tune run failed")
    tune_error.__cause__ = SpaceError("--space my_space.py, line 7: KeyError: 'x'")
    explained = explain_break(tune_error, tmp_path / "first")
    assert str(explained).startswith(
        "--space my_space.py, line 7: KeyError: 'x'; nothing that was reported before is lost"
    )
    assert "--resume first --accept-changes" in str(explained)
