"""A search that goes on with a larger budget after its end, or whose surroundings have changed meanwhile."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from PIL import Image

import ctsearch
from mlflow_server.serve import ServerHandle
from search.champion.opening import SealedTestError, opened_for, record_opening
from search.core.config import SearchConfig
from search.core.extension import enlarge, find_differences
from search.core.folder import Phase, create_search
from search.engine.cluster import Cluster
from search.preparation.changes import accept_changes, find_changes, refuse_changes


def test_the_sealed_test_of_an_extended_search_counts_a_second_opening_and_warns(tmp_path: Path) -> None:
    folder, other = tmp_path / "one", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    known: dict[str, Any] = {"search": "one", "data_hash": "abc"}
    first = record_opening(folder, members=(3,), **known)
    assert (first.num_openings, first.warning) == (1, None)
    with pytest.raises(SealedTestError, match="second validation"):
        record_opening(folder, members=(5,), **known)
    assert opened_for(folder / "sealed_test.json", 0) == (3,)
    assert opened_for(folder / "sealed_test.json", 1) == (), "the extended search chooses anew"

    second = record_opening(folder, members=(5,), num_extensions=1, **known)
    assert (second.num_openings, second.earlier) == (2, ((3,),))
    assert second.warning is not None and "opened for trial 3" in second.warning and "number 2" in second.warning
    assert opened_for(folder / "sealed_test.json", 1) == (5,), "a search killed now goes on with this one"
    assert record_opening(folder, members=(5,), num_extensions=1, **known) == second
    with pytest.raises(SealedTestError):
        record_opening(folder, members=(7,), num_extensions=1, **known)
    assert record_opening(other, search="other", members=(0,), data_hash="abc").num_openings == 3


def test_the_same_champion_of_an_extended_search_opens_nothing_anew(tmp_path: Path) -> None:
    known: dict[str, Any] = {"search": "one", "data_hash": "abc", "members": (3,)}
    record_opening(tmp_path, **known)
    again = record_opening(tmp_path, num_extensions=1, **known)
    assert (again.num_openings, again.warning) == (1, None)
    assert opened_for(tmp_path / "sealed_test.json", 1) == (3,)


def test_a_budget_grows_and_what_is_spent_must_grow_too() -> None:
    config = SearchConfig(num_trials=7, time_budget_s=60.0)
    ended = {"phase": Phase.ENDED, "stop": "ALL_TRIALS", "name": "first"}
    assert enlarge(config, {"num_trials": 9}, ended).num_trials == 9
    with pytest.raises(ValueError, match="began with 7"):
        enlarge(config, {"num_trials": 5}, ended)
    with pytest.raises(ValueError, match="give a larger one"):
        enlarge(config, {"num_trials": 7}, ended)
    with pytest.raises(ValueError, match="Give a larger --num-trials too"):
        enlarge(config, {"time_budget_s": 90.0}, ended)
    with pytest.raises(ValueError, match="Give a larger --time-budget too"):
        enlarge(config, {"num_trials": 9}, {**ended, "stop": "TIME_BUDGET"})


def test_other_options_than_at_the_beginning_are_named() -> None:
    began = SearchConfig(name="first", architectures=("small_cnn",), num_trials=3)
    assert find_differences(SearchConfig.from_record(json.loads(json.dumps(began.to_record()))), began) == []
    other = SearchConfig(name="first", architectures=("resnet18",), num_trials=5, seed=1)
    assert find_differences(began, other) == [
        "--arch was ('small_cnn',), is ('resnet18',)",
        "--seed was 0, is 1",
    ]


def test_a_space_and_a_model_of_ones_own_that_have_changed_are_named_and_accepted(tmp_path: Path) -> None:
    space, model = tmp_path / "space.py", tmp_path / "own.py"
    space.write_text("def space(trial):\n    return {'height': 1}\n")
    model.write_text("def build(n):\n    return 2\n")
    config = SearchConfig(name="first", home=tmp_path / "home", space=space)
    folder = create_search(tmp_path / "home", "first", {"config": config.to_record()})
    shutil.copyfile(space, folder.folder / "space.py")
    folder.update_record(nets={"sources": {f"{model}:build": model.read_text()}})
    refuse_changes(config, folder)

    space.write_text("def space(trial):\n    return {'height': 2}\n")
    model.write_text("def build(n):\n    return 2\n\n\n")
    found = find_changes(config, folder)
    assert [f"{space} has changed (first in line 2)" in found[0], str(model) in found[1]] == [True, True]
    with pytest.raises(ValueError, match=r"space.py has changed .*own.py has changed .*--accept-changes"):
        refuse_changes(config, folder)
    assert accept_changes(config, folder) == tuple(found)
    assert find_changes(config, folder) == []
    assert not (folder.folder / "space.py").exists(), "it is copied anew"
    assert folder.read_record()["nets"]["sources"] == {}, "it is read anew"

    space.unlink()
    model.unlink()
    assert accept_changes(config, folder) == (), "what is gone is taken from the search's own copy"
    folder.release()


@pytest.mark.timeout(1800)
def test_a_search_that_has_ended_goes_on_with_more_trials_and_chooses_anew(
    cluster: Cluster, synthetic_folder: Path, mlflow_server: ServerHandle, tmp_path: Path
) -> None:
    data = tmp_path / "slices"
    shutil.copytree(synthetic_folder, data)
    asked: dict[str, Any] = {
        "data": data,
        "name": "grows",
        "home": tmp_path / "home",
        "tracking_uri": mlflow_server.uri,
        "model_name": "grows-model",
        "arch": "small_cnn",
        "num_trials": 2,
        "max_epochs": 2,
        "image_size": 64,
        "trial_cpus": 1,
    }
    before = ctsearch.search(auto_resume=True, progress=False, **asked)
    assert len(before.trials) == 2 and before.champion is not None
    folder = tmp_path / "home" / "searches" / "grows"
    first = json.loads((folder / "sealed_test.json").read_text())

    home = tmp_path / "home"
    assert ctsearch.search(auto_resume=True, progress=False, **asked).champion == before.champion
    with pytest.raises(ValueError, match=r"began with other options: max_epochs was 2, is 3"):
        ctsearch.search(auto_resume=True, progress=False, **{**asked, "max_epochs": 3})
    with pytest.raises(ValueError, match="has ended"):
        ctsearch.resume("grows", home=home, progress=False)

    image = sorted(data.rglob("*.png"))[0]
    with Image.open(image) as opened:
        darker = opened.convert("L").point([max(0, grey - 1) for grey in range(256)])
    darker.save(image)
    with pytest.raises(ValueError, match=f"1 of the images have changed, such as {image}.*accept_changes"):
        ctsearch.resume("grows", home=home, progress=False, num_trials=4)
    after = ctsearch.resume("grows", home=home, progress=False, num_trials=4, accept_changes=True)

    assert [trial.number for trial in after.trials] == [0, 1, 2, 3]
    assert [trial.values for trial in after.trials][:2] == [trial.values for trial in before.trials]
    assert after.champion is not None
    numbers = {trial.number for trial in after.trials}
    assert set(after.champion.members) <= numbers, "chosen among all, the added ones too"
    assert 0 < after.champion.validation <= 1
    record, second = (json.loads((folder / f"{name}.json").read_text()) for name in ("search", "sealed_test"))
    assert record["phase"] == "ended"
    assert (
        record["extensions"][0]["num_trials"] == 4 and "images have changed" in record["extensions"][0]["accepted"][0]
    )
    assert second["champion"] in (list(after.champion.members), after.champion.trial)
    is_other = sorted(after.champion.members) != sorted(before.champion.members)
    assert second["num_openings"] == first["num_openings"] + is_other
    assert any("after its sealed test had been opened" in warning for warning in after.champion.warnings) == is_other
    client = MlflowClient(mlflow_server.uri)
    children = client.search_runs([client.get_experiment_by_name("grows-model").experiment_id])
    assert {run.info.status for run in children} == {"FINISHED"} and len(children) == 5
