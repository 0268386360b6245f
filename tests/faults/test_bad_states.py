"""Damaged weights, checkpoints and records of a search end in success or in one clear line."""

from __future__ import annotations

import io
import json
import pickle
from functools import lru_cache
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from search.core.budget import Budget
from search.core.config import SearchConfig
from search.core.extension import read_recorded_config
from search.core.folder import create_search, reopen_search
from search.engine.study import Study
from tests.faults.damage import Bomb, Edit, damage, edits, ends_well, few, may_last_long, sandbox
from trainable.architectures import build_model, check_weights
from trainable.checkpoint import CheckpointStore
from trainable.classifier import load_checkpoint
from trainable.config import TrialConfig
from trainable.records import repair_journal
from trainable.report import Direction

TINY = {"architecture": "small_cnn", "cnn_depth": 2, "cnn_filters": 8, "cnn_kernel": 3}


@lru_cache
def save_state(what: str) -> bytes:
    state = build_model(TrialConfig.from_params(TINY), 2).state_dict()
    first = next(iter(state))
    contents: dict[str, Any] = {
        "state": state,
        "state in a checkpoint": {"model": state, "epoch": 3},
        "NaN": state | {first: state[first] * float("nan")},
        "of another shape": state | {first: torch.zeros(1)},
        "sparse": state | {first: state[first].to_sparse()},
        "a bomb": {"state_dict": state, "extra": Bomb()},
        "a list": [torch.zeros(1)],
        "nothing": {},
    }
    if what == "a pickle":
        return pickle.dumps(Bomb())
    file = io.BytesIO()
    torch.save(contents[what], file)
    return file.getvalue()


STATES = st.sampled_from(
    ["state", "state in a checkpoint", "NaN", "of another shape", "sparse", "a bomb", "a list", "nothing", "a pickle"]
)


@may_last_long
@few
@given(edits | st.just([]), STATES, st.sampled_from(["small_cnn", "squeezenet1_1"]))
def test_weights(how: list[Edit], what: str, architecture: str) -> None:
    with sandbox() as folder:
        (path := folder / "weights.pth").write_bytes(damage(save_state(what), how))
        ends_well(lambda: check_weights(architecture, path), "weights.pth")


@may_last_long
@few
@given(edits | st.just([]), STATES, st.sampled_from(["state", "record", "both records", "search"]))
def test_checkpoints(how: list[Edit], what: str, which: str) -> None:
    with sandbox() as folder:
        trial = folder / "searches/first/trials/0003"
        facts = {"classes": ["COVID", "Normal"], "image_size": 32, "config": TINY, "epoch": 2}
        CheckpointStore(trial).save(
            "best", {"model": build_model(TrialConfig.from_params(TINY), 2).state_dict()}, facts
        )
        (search := folder / "searches/first/search.json").write_text(json.dumps({"nets": {"sources": {}}}))
        record, state = trial / "best.json", next(trial.glob("best-*.pt"))
        if which == "state":
            state.write_bytes(damage(save_state(what), how))
        elif which == "search":
            search.write_bytes(damage(search.read_bytes(), how))
        else:
            record.write_bytes(damage(record.read_bytes(), how))
        if which == "both records":
            (trial / "best.good.json").write_bytes(record.read_bytes())
        ends_well(lambda: load_checkpoint(trial), "0003")


# -- records, spaces, models and options

CONFIG = SearchConfig(name="first", architectures=("small_cnn",), ranges={"dropout": "0:0.5"}, num_trials=3)


@may_last_long
@few
@given(edits, st.sampled_from(["search.json", "optuna.journal", "spent.json"]), st.booleans())
def test_records(how: list[Edit], name: str, with_copy: bool) -> None:
    with sandbox() as folder:
        begun = create_search(folder, "first", {"config": CONFIG.to_record()})
        begun.update_record(phase="searching")
        begun.release()
        study = Study(begun.journal_file, sampler="random", seed=0, direction=Direction.MAXIMIZE)
        study.begin(lambda trial: {"architecture": "small_cnn", "dropout": trial.suggest_float("dropout", 0, 0.5)})
        begun.spent_file.write_text('{"wall_s": 3.0, "device_s": 4.0}')
        file = begun.folder / name
        file.write_bytes(damage(file.read_bytes(), how))
        if not with_copy:
            for copy in (*begun.folder.glob("*.good"), *begun.folder.glob("*.head")):
                copy.unlink()

        def resume() -> None:
            again = reopen_search(folder, "first")
            try:
                read_recorded_config(again)
                assert again.phase
                repair_journal(again.journal_file)
                Study(again.journal_file, sampler="random", seed=0, direction=Direction.MAXIMIZE)
                Budget(again.spent_file)
            finally:
                again.release()

        ends_well(resume, name)
