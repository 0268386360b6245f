"""`ctsearch COMMAND`: the options of every command, and nothing that takes long to import."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from search.core.config import GROUPS, OPTIONS, BudgetOptions, SearchConfig
from search.core.extension import BUDGETS
from search.core.folder import default_home, default_storage
from search.core.options import OptionError, add_arguments, list_options, path, read_arguments

if TYPE_CHECKING:
    from search.result import SearchResult

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

MAX_ERROR_CHARS = 2000
"""Fields of a table, names and options come from anywhere and are as long as they are."""


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
    submit.add_argument("cluster_file", type=Path, metavar="CLUSTER.yaml", help="what `ray up` was given")
    submit.add_argument(
        "options", nargs="*", metavar="-- OPTION", help="options of `ctsearch search`; paths are those of the head"
    )
    ui = commands.add_parser("ui", help="open the MLflow UI of earlier searches")
    ui.add_argument("--home", type=Path, default=None, help="default: $CTSEARCH_HOME, else ~/.ctsearch")
    ui.add_argument("--port", type=int, default=None)
    classify = commands.add_parser("classify", help="class and probability of images, by the champion or another model")
    classify.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="images, volumes and folders; DICOM too"
    )
    classify.add_argument(
        "--model", metavar="MODEL", help="a registered name, an MLflow URI or a checkpoint (default: champion)"
    )
    classify.add_argument("--csv", type=Path, metavar="FILE", help="write a table as well")
    classify.add_argument("--json", type=Path, metavar="FILE", help="write one JSON object a line as well")
    classify.add_argument(
        "--explain", action="store_true", help="write Grad-CAM overlays: beside the table, else to explained/"
    )
    classify.add_argument(
        "--per", choices=("volume", "slice"), default="volume", help="a row for each volume (default) or for its slices"
    )
    classify.add_argument("--home", type=Path, help="default: $CTSEARCH_HOME, else ~/.ctsearch")
    classify.add_argument("--tracking-uri", help="default: $MLFLOW_TRACKING_URI, else a server of our own")
    add_evaluate(commands)
    audit = commands.add_parser("audit", help="what is in a data set and what is wrong with it; nothing is trained")
    audit.add_argument("--out", type=Path, metavar="FOLDER", help="write audit.html and audit.json there as well")
    add_arguments(audit, OPTIONS.items(), only=AUDIT_FIELDS)
    export = commands.add_parser("export", help="write the champion, or another model, as one ONNX file")
    export.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="what to write")
    export.add_argument(
        "--model", metavar="MODEL", help="a registered name, an MLflow URI or a checkpoint (default: champion)"
    )
    export.add_argument("--home", type=Path, help="default: $CTSEARCH_HOME, else ~/.ctsearch")
    export.add_argument("--tracking-uri", help="default: $MLFLOW_TRACKING_URI, else a server of our own")
    train = commands.add_parser("train", help="train one recipe here, without a search, and register it")
    add_train_options(train)
    add_steering(commands)
    add_records(commands)
    commands.add_parser("server", help="a tracking server for a team: start, user, backup, restore, upgrade, clean")
    commands.add_parser("recipes", help="named configurations, their source and what was reported of them")
    models = commands.add_parser("models", help="what each net costs on this machine; with a name, its layers")
    models.add_argument("name", nargs="?", metavar="NAME", help="show the layers of this net")
    models.add_argument("--arch", metavar="A,B", help="only these nets; timm:NAME too (default: all)")
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
        command.add_argument("--out", type=Path, metavar="FILE", help=f"what to write (default: {file})")
        command.add_argument("--home", type=Path, help="default: $CTSEARCH_HOME, else ~/.ctsearch")


def add_evaluate(commands: Any) -> None:
    """The command that scores a model on another labelled set."""
    evaluate = commands.add_parser("evaluate", help="the champion's figures on another labelled set")
    evaluate.add_argument("model", nargs="?", metavar="MODEL", help="as of classify's --model (default: champion)")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the figures as well")
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
        command.add_argument("--home", type=Path, help="default: $CTSEARCH_HOME, else ~/.ctsearch")
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
    beside.add_argument("--config", type=Path, metavar="FILE.yaml", help="options from a file; those given here win")
    beside.add_argument(
        "--print-config", action="store_true", default=None, help="write the options as such a file, and end"
    )


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """The options of a single training: those of a search that make sense for it."""
    parser.add_argument("--recipe", required=True, metavar="NAME", help="see `ctsearch recipes`")
    parser.add_argument("--arch", metavar="MODEL", help="another architecture under the same recipe")
    add_arguments(parser, OPTIONS.items(), only=TRAIN_FIELDS)


def read_config(args: argparse.Namespace) -> SearchConfig:
    """Raises ValueError in the user's own words."""
    given = read_arguments(args, OPTIONS)
    file = getattr(args, "config", None)
    if file is None:
        return SearchConfig(**given)
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        return SearchConfig.from_groups(content, **given)
    except OptionError as error:
        raise OptionError(error.field, f"{error.text} (in {file})") from error
    except (OSError, TypeError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"--config {file}: {str(error).splitlines()[0]}") from error


def print_config(config: SearchConfig) -> int:
    """Write the options that differ from their defaults as a `--config` file takes them."""
    import yaml

    groups = {title: options for title, options in config.to_groups().items() if options}
    print(yaml.safe_dump(groups, sort_keys=False, allow_unicode=True), end="")
    return 0


def in_flags(error: Exception) -> str:
    """An error's text with the option named as on the command line, without what a terminal would obey.

    Of a very long one it is the beginning and the end.
    """
    text = str(error)
    if isinstance(error, OptionError) and error.field in OPTIONS:
        text = f"{OPTIONS[error.field].flag} {error.text}"
    text = "".join(sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1] for sign in text)
    if len(text) <= MAX_ERROR_CHARS:
        return text
    half = MAX_ERROR_CHARS // 2 - 3  # the file stands in the beginning, what to do in the end
    return f"{text[:half]} ... {text[-half:]}"


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if list(argv[:1]) == ["server"]:  # with options of its own, that work where only MLflow is installed as well
        from mlflow_server.cli import main as serve

        return serve(argv[1:])
    args = build_parser().parse_args(argv)
    try:
        if args.command == "ui":
            from search.commands.ui import show_ui

            show_ui((args.home or default_home()).expanduser().absolute(), args.port)
            return 0
        if args.command == "submit":
            from search.commands.submit import submit

            build_parser().parse_args(["search", *args.options])  # a wrong option is told here, not in a log there
            return submit(args.cluster_file, args.options)
        if args.command == "classify":
            from search.commands.classify import classify

            home = (args.home or default_home()).expanduser().absolute()
            return classify(
                args.images,
                model=args.model,
                home=home,
                tracking_uri=args.tracking_uri,
                csv_file=args.csv,
                json_file=args.json,
                explain=args.explain,
                per_slice=args.per == "slice",
            )
        if args.command == "audit":
            return run_audit(args)
        if args.command == "evaluate":
            return run_evaluate(args)
        if args.command == "export":
            from search.commands.classify import export_onnx

            home = (args.home or default_home()).expanduser().absolute()
            export_onnx(args.onnx, model=args.model, home=home, tracking_uri=args.tracking_uri)
            return 0
        if args.command == "train":
            return run_train(args)
        if args.command in ("status", "stop", "try", "extend"):
            from search.commands.steer import steer

            return steer(args, (args.home or default_home()).expanduser().absolute())
        if args.command in ("report", "curves"):
            return write_records(args)
        if args.command == "recipes":
            from search.commands.recipes import show_recipes

            show_recipes()
            return 0
        if args.command == "models":
            from search.commands.models import show_layers, show_models

            if args.name:
                show_layers(args.name, image_size=args.image_size)
            else:
                names = tuple(args.arch.split(",")) if args.arch else ()
                show_models(names, image_size=args.image_size, batch_size=args.batch_size, num_threads=args.threads)
            return 0
        return run_search(args)
    except (ValueError, OSError) as error:
        print(f"ctsearch: {in_flags(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ctsearch: interrupted", file=sys.stderr)
        return 130


def write_records(args: argparse.Namespace) -> int:
    """Write the page of a search, or its curves, and say where."""
    home = (args.home or default_home()).expanduser().absolute()
    if args.command == "report":
        from search.commands.report import report

        page = report(home, args.name, args.out)
        print("\n".join(filter(None, [str(page.file), page.left])))
    else:
        from search.commands.curves import export_curves

        print(export_curves(home, args.name, args.out))
    return 0


def run_audit(args: argparse.Namespace) -> int:
    """Print the audit; the exit status says how bad the worst finding is."""
    from search.commands.audit import audit

    given = {"home": default_home(), **read_arguments(args, OPTIONS)}
    if "data" not in given:
        raise ValueError("`ctsearch audit` needs --data: a folder, an archive, a table or a .npz of MedMNIST")
    found = audit(given.pop("data"), out=args.out, **given)
    print("\n".join(found.lines()))
    if args.out is not None:
        print(f"Written      {args.out}/audit.html, {args.out}/audit.json")
    return found.exit_code


def run_evaluate(args: argparse.Namespace) -> int:
    from search.commands.evaluate import evaluate, show_evaluation

    given = {"home": default_home(), **read_arguments(args, OPTIONS)}
    given.pop("tracking_uri", None)
    if "data" not in given:
        raise ValueError("`ctsearch evaluate` needs --data: a labelled folder, archive or table")
    data = given.pop("data")
    show_evaluation(evaluate(args.model, data, tracking_uri=args.tracking_uri, say=print, **given), args.json)
    return 0


def run_train(args: argparse.Namespace) -> int:
    from search.observers.timings import process_began_at_s
    from search.session import train
    from trainable.recipes import find_recipe

    recipe = find_recipe(args.recipe)
    if args.arch:
        recipe = replace(recipe, params={**recipe.params, "architecture": args.arch})
    usual = {name: getattr(recipe, name) for name in ("image_size", "max_epochs", "patience")}
    config = SearchConfig(**{**usual, **read_arguments(args, OPTIONS)})
    return follow(partial(train, recipe, config), process_began_at_s())


def run_search(args: argparse.Namespace) -> int:
    from search.observers.timings import process_began_at_s

    began_at_s = process_began_at_s()
    if args.resume:
        free = {"command", "home", "resume", "ray_address", "storage", "accept_changes", *BUDGETS}
        if given := {name for name, value in vars(args).items() if value is not None} - free:
            raise ValueError(
                f"--resume goes on as the search began; it takes no other option than --home, --ray-address, "
                f"--storage, --accept-changes and a larger budget, got: {', '.join(sorted(given))}"
            )
        budget = {name: value for name, value in read_arguments(args, OPTIONS).items() if name in BUDGETS}
        BudgetOptions(**budget).check_budget()
        return resume(
            args.resume,
            home=path(args.home) if args.home else default_home(),
            ray_address=args.ray_address,
            storage=args.storage or default_storage(),
            budget=budget,
            accepts_changes=bool(args.accept_changes),
            began_at_s=began_at_s,
        )
    if args.accept_changes:
        raise ValueError("--accept-changes goes with --resume NAME")
    if args.print_config:
        return print_config(read_config(args))
    if args.explain_data:
        from search.commands.audit import explain

        return explain(read_config(args))
    if args.preflight:
        from search.commands.preflight import preflight

        return preflight(read_config(args))
    if args.auto_resume:
        from search.resuming import search_or_resume

        return follow(partial(search_or_resume, read_config(args)), began_at_s)
    return run(read_config(args), began_at_s=began_at_s)


def run(config: SearchConfig, *, began_at_s: float | None = None) -> int:
    """A search in this terminal; its exit status."""
    from search.session import search

    return follow(partial(search, config), began_at_s)


def resume(name: str, *, began_at_s: float | None = None, **options: Any) -> int:
    """Go on with a search in this terminal; its exit status."""
    from search import resuming

    return follow(partial(resuming.resume, name, **options), began_at_s)


def follow(start: Callable[..., SearchResult], began_at_s: float | None) -> int:
    """Call with this terminal as the caller: 0 with a champion, 1 without, 130 after Ctrl-C at once, 143 after SIGTERM
    or where the terminal was closed.

    Signals are handled where this is the main thread.
    """
    from rich.console import Console

    from search.core.stop import StopReason
    from search.observers.lasting_output import LastingOutput
    from search.runtime import Caller, Interrupted

    is_main = threading.current_thread() is threading.main_thread()
    output = cast(TextIO, LastingOutput(sys.stdout))
    caller = Caller(console=Console(file=output), began_at_s=began_at_s, handles_signals=is_main)
    try:
        result = start(caller=caller)
    except Interrupted as interrupted:
        return 143 if interrupted.reason is StopReason.TERMINATED else 130
    if caller.stop.reason is StopReason.TERMINATED:
        return 143
    return 0 if result.champion is not None else 1


if __name__ == "__main__":
    sys.exit(main())
