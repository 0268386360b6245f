from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search.core.folder import Phase, create_search, default_home, list_searches, make_name, reopen_search, write_json
from trainable.records import write_record

ROOT = Path(__file__).resolve().parents[3]


def test_a_taken_name_is_refused_and_resume_is_named(tmp_path: Path) -> None:
    create_search(tmp_path, "first", {}).release()
    with pytest.raises(ValueError, match="--resume first"):
        create_search(tmp_path, "first", {})


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    for name in ("../up", "a/b", ".hidden", ""):
        if name:
            with pytest.raises(ValueError, match="--name"):
                create_search(tmp_path, name, {})


def test_a_home_that_can_be_no_folder_is_named_by_its_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/deeper", "dangling"):
        with pytest.raises(ValueError, match=rf"--home is .*{name}; no folder of searches can be made there"):
            create_search(tmp_path / name, "first", {})


def test_without_a_name_the_date_is_taken(tmp_path: Path) -> None:
    assert create_search(tmp_path, None, {}).name.startswith("search-20")
    assert make_name().startswith("search-20")


def test_an_unknown_search_lists_the_known(tmp_path: Path) -> None:
    create_search(tmp_path, "first", {}).release()
    with pytest.raises(ValueError, match=r"no search 'second'.*first"):
        reopen_search(tmp_path, "second")


def test_a_running_search_cannot_be_opened_twice(tmp_path: Path) -> None:
    home = create_search(tmp_path, "first", {})
    with pytest.raises(ValueError, match="running in another process"):
        reopen_search(tmp_path, "first")
    home.release()
    assert reopen_search(tmp_path, "first").resumed


def test_the_record_keeps_what_it_is_not_asked_to_change(tmp_path: Path) -> None:
    home = create_search(tmp_path, "first", {"seed": 3})
    home.update_record(plans={"a": {"b": 1}})
    assert home.read_record() == {"version": 2, "phase": "preparing", "seed": 3, "plans": {"a": {"b": 1}}}


def test_a_search_has_a_phase_and_one_of_version_1_has_that_of_its_files(tmp_path: Path) -> None:
    folder = create_search(tmp_path, "first", {})
    phases = [folder.phase]
    folder.enter(Phase.CONCLUDING)
    phases.append(folder.phase)
    write_record(folder.record_file, {"seed": 3})
    phases.append(folder.phase)
    folder.journal_file.touch()
    phases.append(folder.phase)
    folder.sealed_test_file.touch()
    phases.append(folder.phase)
    write_record(folder.record_file, {"champion": 3})
    phases.append(folder.phase)
    of_files = [Phase.PREPARING, Phase.SEARCHING, Phase.CONCLUDING, Phase.ENDED]
    assert phases == [Phase.PREPARING, Phase.CONCLUDING, *of_files]


def test_a_folder_that_a_killed_search_left_without_a_record_gives_its_name_free(tmp_path: Path) -> None:
    left = tmp_path / "searches" / "first"
    (left / "trials").mkdir(parents=True)
    (left / "driver.lock").touch()
    folder = create_search(tmp_path, "first", {"seed": 1})
    assert folder.read_record()["seed"] == 1
    assert list_searches(tmp_path) == ["first"]
    kept = [path for path in (tmp_path / "searches").iterdir() if path.name.startswith(".left-first")]
    assert len(kept) == 1, "nothing is deleted"


KILLED = """
import os, signal, sys
from pathlib import Path
from search.core import folder
steps = int(sys.argv[2])
write, make = folder.write_json, Path.mkdir
def count(function):
    def call(*args, **options):
        global steps
        steps -= 1
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)
    return call
folder.write_json, folder._lock = count(folder.write_json), count(folder._lock)
Path.mkdir, Path.rename, Path.chmod = count(Path.mkdir), count(Path.rename), count(Path.chmod)
folder.create_search(Path(sys.argv[1]), "first", {"seed": 7})
"""


@pytest.mark.parametrize("step", range(1, 9))
def test_a_search_killed_as_it_begins_leaves_a_name_that_can_be_used_or_resumed(tmp_path: Path, step: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(step)], cwd=ROOT, check=False)
    assert done.returncode in (-signal.SIGKILL, 0)
    if "first" in list_searches(tmp_path):
        assert reopen_search(tmp_path, "first").read_record()["seed"] == 7
    else:
        assert create_search(tmp_path, "first", {"seed": 8}).read_record()["seed"] == 8


def test_a_discarded_search_frees_its_name(tmp_path: Path) -> None:
    create_search(tmp_path, "first", {}).discard()
    assert list_searches(tmp_path) == []
    create_search(tmp_path, "first", {})


def test_writing_json_leaves_nothing_aside(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"path": Path("x")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"path": "x"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_the_home_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CTSEARCH_HOME", str(tmp_path))
    assert default_home() == tmp_path
    monkeypatch.delenv("CTSEARCH_HOME")
    assert default_home() == Path.home() / ".ctsearch"
