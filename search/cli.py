"""`ctsearch COMMAND`: options become a call, results and errors lines and an exit status."""

from __future__ import annotations

import argparse
import re
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO, cast

from search.command_parser import build_parser
from search.core.budget_options import BudgetOptions
from search.core.config import OPTIONS, SearchConfig, find_home
from search.core.extension import BUDGETS
from search.core.folder import default_storage
from search.core.options import OptionError, read_arguments, read_value
from trainable.files import check_target

if TYPE_CHECKING:
    from search.result import SearchResult

MAX_ERROR_CHARS = 2000
"""Fields of a table, names and options come from anywhere and are as long as they are."""


def read_config(args: argparse.Namespace) -> SearchConfig:
    """Raises ValueError in the user's own words."""
    given = read_arguments(args, OPTIONS)
    file = getattr(args, "config", None)
    if file is None:
        return SearchConfig(**given)
    from search.core.yaml_file import read_yaml

    content = read_yaml(file, "--config")
    try:
        return SearchConfig.from_groups(content, **given)
    except OptionError as error:
        raise OptionError(error.field, f"{error.text} (in {file})") from error
    except TypeError as error:
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


def join_negative(argv: Sequence[str]) -> list[str]:
    """`--window -600,1500` as `--window=-600,1500`: argparse would take the value for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and re.fullmatch(r"--[a-z-]+", joined[-1]) and re.match(r"-[\d.]", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if list(argv[:1]) == ["server"]:  # with options of its own, that work where only MLflow is installed as well
        from mlflow_server.cli import main as serve

        return serve(argv[1:])
    args = build_parser().parse_args(join_negative(argv))
    try:
        if args.command == "ui":
            from search.commands.ui import show_ui

            show_ui(find_home(args.home), args.port)
            return 0
        if args.command == "submit":
            from search.commands.submit import submit

            build_parser().parse_args(["search", *args.options])  # a wrong option is reported here, not in a log there
            return submit(args.cluster_file, args.options)
        if args.command == "classify":
            from search.commands.classify import classify
            from search.commands.inputs import Per

            home = find_home(args.home)
            return classify(
                args.images,
                model=args.model,
                home=home,
                tracking_uri=args.tracking_uri,
                csv_file=args.csv,
                json_file=args.json,
                explain=args.explain,
                per=Per(unit=args.per, patient_from=args.patient_from),
            )
        if args.command == "audit":
            return run_audit(args)
        if args.command == "evaluate":
            return run_evaluate(args)
        if args.command == "export":
            from search.commands.export import export_onnx

            home = find_home(args.home)
            export_onnx(args.onnx, model=args.model, home=home, tracking_uri=args.tracking_uri)
            return 0
        if args.command == "train":
            return run_train(args)
        if args.command in ("status", "stop", "try", "extend"):
            from search.commands.steer import steer

            return steer(args, find_home(args.home))
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
                names = () if args.arch is None else read_value("architectures", OPTIONS["architectures"], args.arch)
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
    home = find_home(args.home)
    if args.out is not None:
        check_target(args.out, "--out")
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

    given = {**read_arguments(args, OPTIONS), "home": find_home(args.home)}
    if "data" not in given:
        raise ValueError("`ctsearch audit` needs --data: a folder, an archive, a table or a .npz of MedMNIST")
    found = audit(given.pop("data"), out=args.out, **given)
    print("\n".join(found.lines()))
    if args.out is not None:
        print(f"Written      {args.out}/audit.html, {args.out}/audit.json")
    return found.exit_code


def run_evaluate(args: argparse.Namespace) -> int:
    from search.commands.evaluate import evaluate, show_evaluation

    given = {**read_arguments(args, OPTIONS), "home": find_home(args.home)}
    given.pop("tracking_uri", None)
    if "data" not in given:
        raise ValueError("`ctsearch evaluate` needs --data: a labelled folder, archive or table")
    data = given.pop("data")
    if args.json is not None:
        check_target(args.json, "--json")
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
    if args.resume is not None:
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
            home=find_home(args.home),
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
