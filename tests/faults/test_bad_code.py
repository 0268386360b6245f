"""A user's own space, model and options, wrong in any way, end in success or in one clear line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from search.cli import read_config
from search.command_parser import build_parser
from search.core.config import OPTIONS, SearchConfig
from search.core.space import load_space
from search.engine.space_probe import check_space
from search.preparation.choices import check_choices
from search.preparation.models import check_own_models
from tests.faults.damage import ends_well, few, may_last_long, sandbox

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
        (folder / "my_model.py").write_text(text)

        def check() -> None:
            config = SearchConfig(architectures=("my_model.py:build",))
            check_choices(config)
            check_own_models({"my_model.py:build": text}, num_classes=2, image_size=32)

        ends_well(check, "my_model.py")


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
        names = [flag[2:].replace("-", sign).removesuffix("s") for flag in flags for sign in "_ "]
        ends_well(run, "options.yaml", *flags, *names)
