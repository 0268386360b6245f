"""Bad inputs of every kind: each ends in success or in one line that names the file; nothing of it runs or escapes.

`CTSEARCH_FUZZ_CASES` says how many cases the tests try together: 100 where it is not set, 10,000 before a release.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from search.cli import build_parser, in_flags, read_config
from search.core.budget import Budget
from search.core.config import OPTIONS, SearchConfig
from search.core.extension import read_recorded_config
from search.core.folder import create_search, reopen_search
from search.core.space import load_space
from search.engine.searcher import Study, check_space
from search.preparation.choices import check_choices
from search.preparation.models import check_own_nets
from tests.trainable.images.dicom_files import HU, build, save
from tests.trainable.images.sets import fill, read
from trainable.architectures import build_model, check_weights
from trainable.checkpoint import CheckpointStore
from trainable.classify import load_checkpoint
from trainable.config import TrialConfig
from trainable.images.decode import decode
from trainable.records import repair_journal
from trainable.report import Direction

NUM_KINDS = 10
NUM_CASES = max(2, int(os.environ.get("CTSEARCH_FUZZ_CASES", "100")) // NUM_KINDS)

few = settings(
    max_examples=NUM_CASES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
may_last_long = pytest.mark.timeout(300 + 4 * NUM_CASES)

# -- what is done to a whole file, and what must hold afterwards

PIECES = [
    b"",
    b"\0",
    b"\xff\xfe",
    b'"',
    b";",
    b"\r",
    b"{",
    b"../../escaped",
    b"/etc/passwd",
    b"nan",
    b"1e400",
    b"-1",
    b"9" * 30,
    b"x" * 5000,
    b"\xe2\x80\xae",
    b"\x1b[2J",
]
Edit = tuple[str, float, bytes]
edits: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(
        st.sampled_from(["cut", "replace", "insert", "remove", "flip"]),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(PIECES) | st.binary(min_size=1, max_size=20),
    ),
    min_size=1,
    max_size=4,
)


def damage(whole: bytes, how: list[Edit]) -> bytes:
    for what, where, piece in how:
        at = int(where * len(whole))
        if what == "cut":
            whole = whole[:at]
        elif what == "replace":
            whole = whole[:at] + piece + whole[at + len(piece) :]
        elif what == "insert":
            whole = whole[:at] + piece + whole[at:]
        elif what == "remove":
            whole = whole[:at] + whole[at + len(piece) :]
        elif whole:
            whole = whole[:at] + bytes([whole[at] ^ (piece or b"\1")[0]]) + whole[at + 1 :]
    return whole


@contextlib.contextmanager
def sandbox() -> Iterator[Path]:
    """A folder to work in, two levels below one where nothing else may appear; code that runs leaves a file there."""
    with tempfile.TemporaryDirectory() as outer:
        inner = Path(outer) / "a" / "b"
        inner.mkdir(parents=True)
        with contextlib.chdir(inner):
            yield inner
        assert [path.name for path in Path(outer).iterdir()] == ["a"], "something was written outside"
        assert [path.name for path in (Path(outer) / "a").iterdir()] == ["b"], "something was written outside"
        assert not list(inner.rglob("exploded")), "code of a file was run"


def ends_well(call: Callable[[], object], *names: str) -> str:
    """Call; nothing where it succeeds, else its one line, which bears one of `names`."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")  # a warning is no error outside of tests
            call()
    except (ValueError, OSError) as error:  # what the command line prints as a line
        line = in_flags(error)
        assert line.isprintable(), repr(line)
        assert line and len(line) < 3000, len(line)
        assert any(name.lower() in line.lower() for name in names), line
        return line
    return ""


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.system, ("touch exploded",)


# -- tables and archives

TABLE = "path,label,patient,split,Report\n" + "".join(
    f"images/{i:02}.png,{('COVID', 'Normal')[i % 2]},P{i // 2},{('train', 'train', 'val', 'test')[i // 2 % 4]},a text\n"
    for i in range(16)
)


@may_last_long
@few
@given(edits, st.sampled_from(["labels.csv", "labels.tsv", "labels.parquet"]))
def test_tables(how: list[Edit], name: str) -> None:
    with sandbox() as folder:
        root = fill(folder / "x", *(f"images/{i:02}.png" for i in range(16)))
        (root / name).write_bytes(damage(write_parquet() if name.endswith("parquet") else TABLE.encode(), how))
        ends_well(lambda: read(root / name), name)


@lru_cache
def write_parquet() -> bytes:
    import pandas

    file = io.BytesIO()
    pandas.read_csv(io.StringIO(TABLE)).to_parquet(file)
    return file.getvalue()


NAMES = st.sampled_from(
    [
        *("COVID/1.png", "Normal/1.png", "../../escaped", "/tmp/ctsearch-escaped", "COVID/../../../escaped", "", "."),
        *("C:\\escaped", "COVID/\0.png", "COVID/1.png/", "COVID\\..\\..\\escaped", "x/\x1b[2J.png", "COVID/CON.png"),
        "a" * 300,
    ]
)
MEMBERS = st.lists(
    st.tuples(NAMES, st.sampled_from(["file", "link", "hard link", "device", "pipe", "folder"])), max_size=5
)


def pack_zip(members: list[tuple[str, str]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, kind in members:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o120777 if kind == "link" else 0o100644) << 16
            archive.writestr(entry, "../../../escaped" if kind == "link" else "x" * 100)
    return file.getvalue()


def pack_tar(members: list[tuple[str, str]], mode: str) -> bytes:
    kinds = {"link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, kind in members:
            entry = tarfile.TarInfo(name)
            entry.type = kinds.get(kind, tarfile.DIRTYPE if kind == "folder" else tarfile.REGTYPE)
            entry.linkname = "../../../escaped" if "link" in kind else ""
            entry.size = 100 if kind == "file" else 0
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    return file.getvalue()


ORDINARY = [(f"{label}/{i}.png", "file") for label in ("COVID", "Normal") for i in range(3)]


@may_last_long
@few
@given(MEMBERS, edits | st.just([]), st.sampled_from(["set.zip", "set.tar", "set.tar.gz"]))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives(members: list[tuple[str, str]], how: list[Edit], name: str) -> None:
    with sandbox() as folder:
        members = [*ORDINARY, *members]
        whole = pack_zip(members) if name.endswith("zip") else pack_tar(members, "w:gz" if name.endswith("gz") else "w")
        (folder / name).write_bytes(damage(whole, how))
        ends_well(lambda: read(folder / name), name)
        assert {path.name for path in folder.iterdir()} <= {name, "unpacked"}
        assert not Path("/tmp/ctsearch-escaped").exists()


# -- images, DICOM, weights and checkpoints


@lru_cache
def write_image(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(file, kind)
    return file.getvalue()


def is_decoded(path: Path) -> None:
    pixels = decode(path)
    assert pixels.dtype == np.uint8 and pixels.ndim == 2


@may_last_long
@few
@given(edits, st.sampled_from(["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"]))
def test_images(how: list[Edit], kind: str) -> None:
    with sandbox() as folder:
        (path := folder / "a slice").write_bytes(damage(write_image(kind), how))
        ends_well(lambda: is_decoded(path), "a slice")


HEADERS: Mapping[str, list[Any]] = {
    "RescaleSlope": [None, "", 0, -1, "1e300", 1],
    "RescaleIntercept": [None, "", "1e300", -1024],
    "BitsStored": [0, 1, 12, 16, 300],
    "BitsAllocated": [0, 8, 16, 32, 64],
    "SamplesPerPixel": [0, 1, 3, 4],
    "Rows": [0, 1, 24, 65535],
    "Columns": [None, 0, 32],
    "NumberOfFrames": ["", "0", "-1", "2", "99999999"],
    "PhotometricInterpretation": [None, "", "MONOCHROME1", "RGB", "PALETTE COLOR", "nonsense"],
    "PixelRepresentation": [None, 0, 1, 7],
    "PixelData": [b"", b"x"],
    "WindowWidth": ["", "0", "nan"],
}


@may_last_long
@few
@given(
    st.dictionaries(st.sampled_from(sorted(HEADERS)), st.integers(0, 5), max_size=4), edits | st.just([]), st.booleans()
)
def test_dicom(headers: dict[str, int], how: list[Edit], implicit: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydicom, for what is written here on purpose
        try:
            chosen = {name: HEADERS[name][number % len(HEADERS[name])] for name, number in headers.items()}
            whole = save(build((HU + 1400).astype(np.uint16), **chosen), implicit=implicit)
        except Exception:  # pydicom does not write everything
            whole = save(build((HU + 1400).astype(np.uint16)))
    with sandbox() as folder:
        (path := folder / "a slice.dcm").write_bytes(damage(whole, how))
        ends_well(lambda: is_decoded(path), "a slice.dcm")


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


SPACE = """import math

CHOICES = ["small_cnn", "resnet18"]


def space(trial):
    architecture = trial.suggest_categorical("architecture", CHOICES)
    rate = trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True)
    depth = trial.suggest_int("cnn_depth", 2, 4)
    if architecture == "small_cnn":
        return {"architecture": architecture, "cnn_depth": depth, "learning_rate": rate, "dropout": math.sqrt(0.04)}
    return {"architecture": architecture, "optimizer": "adamw", "learning_rate": rate, "batch_size": 2 ** depth}
"""
MODEL = """from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, stride=4)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.head(x.mean((2, 3)))


def build(num_classes):
    return Net(num_classes)
"""
WORDS = [
    "0",
    "-1",
    "1e400",
    "None",
    "'text'",
    "True",
    "[]",
    "{}",
    "float('nan')",
    "x",
    "3.5",
    "()",
    "1 / 0",
    "lambda: 0",
]


@st.composite
def changed_code(draw: st.DrawFn, text: str) -> str:
    """One to three words of a program are others, or a line is gone, doubled or moved."""
    for _ in range(draw(st.integers(1, 3))):
        lines = text.splitlines(keepends=True)
        number = draw(st.integers(0, len(lines) - 1))
        how = draw(st.sampled_from(["word", "word", "word", "drop", "double", "indent"]))
        if how == "word":
            words = lines[number].split(" ")
            words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(WORDS))
            lines[number] = " ".join(words).rstrip("\n") + "\n"
        elif how == "drop":
            del lines[number]
        elif how == "double":
            lines.insert(number, lines[number])
        else:
            lines[number] = f"  {lines[number]}"
        text = "".join(lines) or "\n"
    return text


@may_last_long
@few
@given(changed_code(SPACE))
def test_spaces(text: str) -> None:
    with sandbox() as folder:
        (path := folder / "my_space.py").write_text(text)
        ends_well(lambda: check_space(load_space(path)), "my_space.py")


@may_last_long
@few
@given(changed_code(MODEL))
def test_models(text: str) -> None:
    with sandbox() as folder:
        (folder / "my_net.py").write_text(text)

        def check() -> None:
            config = SearchConfig(architectures=("my_net.py:build",))
            check_choices(config)
            check_own_nets({"my_net.py:build": text}, num_classes=2, image_size=32)

        ends_well(check, "my_net.py")


VALUES = st.sampled_from(
    [
        "",
        " ",
        "0",
        "-1",
        "nan",
        "1e400",
        "9" * 400,
        "1,2",
        "a=b",
        "=",
        ":",
        "1:0",
        "../x",
        "x\0",
        "\x1b[2J",
        "10m",
        "small_cnn",
    ]
) | st.text(max_size=6)
FLAGS = sorted(entry.flag for entry in OPTIONS.values() if entry.flag not in ("--home", "--config"))


@may_last_long
@few
@given(st.lists(st.tuples(st.sampled_from(FLAGS), VALUES), min_size=1, max_size=3), st.booleans())
def test_options(given_options: list[tuple[str, str]], as_file: bool) -> None:
    with sandbox() as folder:
        arguments = [f"{flag}={value}" for flag, value in given_options]
        if as_file:
            text = "\n".join(f"{flag.removeprefix('--')}: {value}" for flag, value in given_options)
            (folder / "options.yaml").write_bytes(text.encode(errors="surrogateescape"))
            arguments = ["--config", "options.yaml"]

        def run() -> None:
            try:
                parsed = build_parser().parse_args(["search", *arguments])
            except SystemExit as ended:
                assert ended.code == 2
                return
            check_choices(read_config(parsed))

        flags = [flag for flag, _ in given_options]
        names = [flag[2:].replace("-", sign) for flag in flags for sign in "_ "]
        ends_well(run, "options.yaml", *flags, *names)
