"""The parser of `ctsearch COMMAND`: the options of every command, and nothing that takes long to import."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mlflow_server.mlflow_process import read_port
from search.core.config import GROUPS, OPTIONS
from search.core.options import add_arguments, list_options

EXAMPLES = """examples:
  ctsearch search                                          the synthetic set, on this machine
  ctsearch search --data slices/ --name first              a folder with one subfolder per class
  ctsearch search --data slices/ --time-budget 2h --arch resnet18,resnet50 --lr 1e-5:1e-3
  ctsearch search --resume first                           go on where a killed search stood
  ctsearch status first                                    and stop, try, extend: steer it from another shell
  ctsearch submit cluster.yaml -- --data slices/           on the cluster that `ray up cluster.yaml` made
  ctsearch report first                                    one HTML page: curves, rungs, what is left to gain
  ctsearch ui                                              compare runs in the MLflow UI
  ctsearch audit --data slices/ --out audit/               what is wrong with a set, before anything is trained
  ctsearch train --recipe vgg16-covidct --data slices/     one published configuration, without a search
  ctsearch classify slices/new/ --csv found.csv            by the champion
  ctsearch classify slices/new/ --explain                  and show which parts of each image spoke for its class
  ctsearch evaluate --data elsewhere/                      its figures on a labelled set of another hospital
  ctsearch export --onnx champion.onnx                     the champion for ONNX Runtime
  ctsearch models                                          what each architecture costs on this machine
"""


def read_path(text: str) -> Path:
    """A path as it is given. Raises ArgumentTypeError for an empty one, which would be the folder one is in."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; give a path, or leave it out")
    return Path(text)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ctsearch",
        description="Hyperparameter search for medical image classification.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    search = commands.add_parser("search", help="search, and register the champion", epilog=EXAMPLES)
    search.formatter_class = argparse.RawDescriptionHelpFormatter
    add_search_options(search)
    submit = commands.add_parser("submit", help="search on a cluster; this machine may be switched off")
    submit.add_argument("cluster_file", type=read_path, metavar="CLUSTER.yaml", help="what `ray up` was given")
    submit.add_argument(
        "options", nargs="*", metavar="-- OPTION", help="options of `ctsearch search`; paths are those of the head"
    )
    ui = commands.add_parser("ui", help="open the MLflow UI of earlier searches")
    ui.add_argument("--home", type=read_path, default=None, help="default: $CTSEARCH_HOME, else ~/.ctsearch")
    ui.add_argument("--port", type=read_port, default=None)
    classify = commands.add_parser("classify", help="class and probability of images, by the champion or another model")
    classify.add_argument(
        "images", nargs="+", type=read_path, metavar="IMAGE", help="images, volumes and folders; DICOM too"
    )
    classify.add_argument(
        "--model", metavar="MODEL", help="a registered name, an MLflow URI or a checkpoint (default: champion)"
    )
    classify.add_argument("--csv", type=read_path, metavar="FILE", help="write a table as well")
    classify.add_argument("--json", type=read_path, metavar="FILE", help="write one JSON object a line as well")
    classify.add_argument(
        "--explain", action="store_true", help="write Grad-CAM overlays: beside the table, else to explained/"
    )
    classify.add_argument(
        "--per",
        choices=("volume", "slice", "patient"),
        default="volume",
        help="a row for each volume (default), for each of its slices, or for all that is one patient's",
    )
    add_arguments(classify, OPTIONS.items(), only=("patient_from",))
    classify.add_argument("--home", type=read_path, help="default: $CTSEARCH_HOME, else ~/.ctsearch")
    classify.add_argument("--tracking-uri", help="default: $MLFLOW_TRACKING_URI, else a server of our own")
    add_evaluate(commands)
    audit = commands.add_parser("audit", help="what is in a data set and what is wrong with it; nothing is trained")
    audit.add_argument("--out", type=read_path, metavar="FOLDER", help="write audit.html and audit.json there as well")
    add_arguments(audit, OPTIONS.items(), only=AUDIT_FIELDS)
    export = commands.add_parser("export", help="write the champion, or another model, as one ONNX file")
    export.add_argument("--onnx", type=read_path, required=True, metavar="FILE", help="what to write")
    export.add_argument(
        "--model", metavar="MODEL", help="a registered name, an MLflow URI or a checkpoint (default: champion)"
    )
    export.add_argument("--home", type=read_path, help="default: $CTSEARCH_HOME, else ~/.ctsearch")
    export.add_argument("--tracking-uri", help="default: $MLFLOW_TRACKING_URI, else a server of our own")
    train = commands.add_parser("train", help="train one recipe here, without a search, and register it")
    add_train_options(train)
    add_steering(commands)
    add_records(commands)
    commands.add_parser("server", help="a tracking server for a team: start, user, backup, restore, upgrade, clean")
    commands.add_parser("recipes", help="named configurations, their source and what was reported of them")
    models = commands.add_parser("models", help="what each model costs on this machine; with a name, its layers")
    models.add_argument("name", nargs="?", metavar="NAME", help="show the layers of this model")
    models.add_argument("--arch", metavar="A,B", help="only these models; timm:NAME too (default: all)")
    models.add_argument("--image-size", type=int, default=224, metavar="PIXELS", help="default: 224")
    models.add_argument("--batch-size", type=int, default=16, help="of a training step (default: 16)")
    models.add_argument("--threads", type=int, help="of torch on a CPU (default: all cores)")
    return parser


def add_records(commands: Any) -> None:
    """The commands that read a search's records, whether it runs or has ended."""
    report = commands.add_parser("report", help="one HTML page of a search, running or ended")
    curves = commands.add_parser("curves", help="the learning curves of a search as a file").add_subparsers(
        dest="verb", required=True, metavar="export"
    )
    export = curves.add_parser("export", help="write what benchmarks/curves.py replays")
    for command, file in ((report, "search.html in the search's folder"), (export, "NAME.curves.json")):
        command.add_argument("name", metavar="NAME")
        command.add_argument("--out", type=read_path, metavar="FILE", help=f"what to write (default: {file})")
        command.add_argument("--home", type=read_path, help="default: $CTSEARCH_HOME, else ~/.ctsearch")


def add_evaluate(commands: Any) -> None:
    """The command that scores a model on another labelled set."""
    evaluate = commands.add_parser("evaluate", help="the champion's figures on another labelled set")
    evaluate.add_argument("model", nargs="?", metavar="MODEL", help="as of classify's --model (default: champion)")
    evaluate.add_argument("--json", type=read_path, metavar="FILE", help="write the figures as well")
    evaluate.add_argument("--tracking-uri", help="default: $MLFLOW_TRACKING_URI, else a server of our own")
    add_arguments(evaluate, OPTIONS.items(), only=("data", "home", "patient_from", "skip_bad_images"))


def add_steering(commands: Any) -> None:
    """The commands by which a running search is steered from another shell."""
    for name, text in {
        "status": "where a search stands",
        "stop": "end a running search with its champion so far, or one trial of it",
        "try": "let a running search try a configuration next",
        "extend": "give a running search a larger budget",
    }.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("name", metavar="NAME")
        command.add_argument("--home", type=read_path, help="default: $CTSEARCH_HOME, else ~/.ctsearch")
        if name == "status":
            command.add_argument("--json", action="store_true", help="as one JSON object")
        if name == "stop":
            command.add_argument("--trial", type=int, metavar="NUMBER", help="this trial alone")
        if name == "try":
            command.add_argument("params", nargs="+", metavar="NAME=VALUE", help="such as lr=3e-4 arch=resnet18")
        if name == "extend":
            add_arguments(command, list_options(GROUPS["budget"]))


TITLES = {
    "search": "the search",
    "data": "data",
    "space": "search space",
    "budget": "budget (whichever ends first)",
    "scheduling": "trials",
    "finish": "the champion",
    "machine": "machine",
}
TRAIN_FIELDS = (
    *("data", "weights", "name", "home", "model_name", "positive", "patient_from", "skip_bad_images", "image_size"),
    *("window", "colour", "slices", "neighbours", "neighbour_mm"),
    *("max_epochs", "patience", "metric", "tracking_uri", "seed", "deterministic"),
)
AUDIT_FIELDS = (
    *("data", "home", "positive", "patient_from"),
    *("window", "colour", "slices", "neighbours", "neighbour_mm"),
)


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """The options of a search, derived from the configuration's own fields, and what is asked beside them."""
    for title, group in GROUPS.items():
        add_arguments(parser.add_argument_group(TITLES[title]), list_options(group))
    beside = parser.add_argument_group("instead of a new search, or beside it")
    beside.add_argument("--resume", metavar="NAME", help="go on with a search; a larger budget also after its end")
    beside.add_argument(
        "--accept-changes", action="store_true", default=None, help="with --resume: changed images, space and models"
    )
    beside.add_argument(
        "--auto-resume", action="store_true", default=None, help="with --name: go on where it exists, else begin"
    )
    beside.add_argument("--preflight", action="store_true", default=None, help="only look at every node, and end")
    beside.add_argument(
        "--explain-data", action="store_true", default=None, help="only show how the data is read, and end"
    )
    beside.add_argument(
        "--config", type=read_path, metavar="FILE.yaml", help="options from a file; those given here win"
    )
    beside.add_argument(
        "--print-config", action="store_true", default=None, help="write the options as such a file, and end"
    )


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """The options of a single training: those of a search that make sense for it."""
    parser.add_argument("--recipe", required=True, metavar="NAME", help="see `ctsearch recipes`")
    parser.add_argument("--arch", metavar="MODEL", help="another architecture under the same recipe")
    add_arguments(parser, OPTIONS.items(), only=TRAIN_FIELDS)
