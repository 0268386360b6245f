"""`ctsearch COMMAND`: the options of every command, and nothing that takes long to import."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.core.config import BAD_NODES, SAMPLERS, SearchConfig, parse_bytes, parse_duration_s
from search.core.folder import default_home, default_storage
from trainable.config import METRICS
from trainable.recipes import RECIPES

EXAMPLES = """examples:
  ctsearch search                                          the made set, on this machine
  ctsearch search --data slices/ --name first              a folder with one subfolder per class
  ctsearch search --data slices/ --time-budget 2h --arch resnet18,resnet50 --lr 1e-5:1e-3
  ctsearch search --resume first                           go on where a killed search stood
  ctsearch submit cluster.yaml -- --data slices/           on the cluster that `ray up cluster.yaml` made
  ctsearch ui                                              compare runs in the MLflow UI
  ctsearch train --recipe vgg16-covidct --data slices/     one published configuration, without a search
  ctsearch classify slices/new/ --csv found.csv            by the champion
  ctsearch classify slices/new/ --explain                  and show which parts of each picture spoke for its class
  ctsearch export --onnx champion.onnx                     the champion for ONNX Runtime
  ctsearch models                                          what each net costs on this machine
"""


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
    classify.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="files and folders; DICOM too")
    classify.add_argument(
        "--model", metavar="MODEL", help="a registered name, an MLflow URI or a checkpoint (default: champion)"
    )
    classify.add_argument("--csv", type=Path, metavar="FILE", help="write a table as well")
    classify.add_argument("--json", type=Path, metavar="FILE", help="write one JSON object a line as well")
    classify.add_argument(
        "--explain", action="store_true", help="write Grad-CAM overlays: beside the table, else to explained/"
    )
    classify.add_argument("--home", type=Path, help="default: $CTSEARCH_HOME, else ~/.ctsearch")
    classify.add_argument("--tracking-uri", help="default: $MLFLOW_TRACKING_URI, else a server of our own")
    export = commands.add_parser("export", help="write the champion, or another model, as one ONNX file")
    export.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="what to write")
    export.add_argument(
        "--model", metavar="MODEL", help="a registered name, an MLflow URI or a checkpoint (default: champion)"
    )
    export.add_argument("--home", type=Path, help="default: $CTSEARCH_HOME, else ~/.ctsearch")
    export.add_argument("--tracking-uri", help="default: $MLFLOW_TRACKING_URI, else a server of our own")
    train = commands.add_parser("train", help="train one recipe here, without a search, and register it")
    add_train_options(train)
    commands.add_parser("server", help="a tracking server for a team: start, user, backup, restore, upgrade, clean")
    commands.add_parser("recipes", help="named configurations, their source and what was reported of them")
    models = commands.add_parser("models", help="what each net costs on this machine; with a name, its layers")
    models.add_argument("name", nargs="?", metavar="NAME", help="show the layers of this net")
    models.add_argument("--arch", metavar="A,B", help="only these nets (default: all)")
    models.add_argument("--image-size", type=int, default=224, metavar="PIXELS", help="default: 224")
    models.add_argument("--batch-size", type=int, default=16, help="of a training step (default: 16)")
    models.add_argument("--threads", type=int, help="of torch on a CPU (default: all cores)")
    return parser


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """The options of a search. A default of None is filled in by SearchConfig."""
    place = parser.add_argument_group("the search")
    place.add_argument("--name", help="name of the search and of its folder (default: its date and time)")
    place.add_argument("--home", type=Path, help="folder of all searches (default: $CTSEARCH_HOME, else ~/.ctsearch)")
    place.add_argument("--resume", metavar="NAME", help="go on with a search that was killed or terminated")
    place.add_argument("--model-name", help="name in the model registry (default: from the data's name)")

    data = parser.add_argument_group("data")
    data.add_argument(
        "--data", type=Path, help="folder, zip, tar, CSV or Parquet manifest, DICOM (default: a made set)"
    )
    data.add_argument("--positive", metavar="CLASS", help="which of two classes is the disease (default: guessed)")
    data.add_argument("--patient-from", metavar="REGEX", help="take the patient from each file's name")
    data.add_argument("--skip-bad-images", action="store_true", default=None, help="leave them out and count them")
    data.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="default: 64 for the made set, else 128 on CPU, 224"
    )

    space = parser.add_argument_group("search space")
    space.add_argument("--arch", metavar="A,B", help="nets to try; FILE.py:FUNCTION is a net of your own")
    space.add_argument("--lr", metavar="LOW:HIGH", help="short for --range learning_rate=LOW:HIGH")
    space.add_argument("--range", action="append", metavar="NAME=LOW:HIGH", help="narrow one hyperparameter (or A,B,C)")
    space.add_argument("--space", type=Path, metavar="FILE.py", help="your own `def space(trial)`")
    space.add_argument("--recipes", metavar="all|A,B", help="begin with these (`ctsearch recipes`); their nets join")
    space.add_argument("--weights", action="append", metavar="ARCH=FILE", help="pretrained weights, or `imagenet`")
    space.add_argument("--sampler", choices=SAMPLERS)

    budget = parser.add_argument_group("budget (whichever ends first)")
    budget.add_argument("--num-trials", type=int, help="default: 20 where no other budget is given")
    budget.add_argument("--time-budget", metavar="30m", help="wall time")
    budget.add_argument("--gpu-hours", type=float, metavar="HOURS", help="core-hours where trials use no GPU")
    budget.add_argument("--max-epochs", type=int, help="of one trial (default: 27)")
    budget.add_argument("--first-rung", type=int, metavar="EPOCHS", help="ASHA's first rung (default: 1)")
    budget.add_argument("--reduction-factor", type=int, metavar="N", help="ASHA keeps 1/N at each rung (default: 3)")
    budget.add_argument("--metric", choices=METRICS, help="on validation (default: auc)")
    budget.add_argument(
        "--patience", type=int, metavar="EPOCHS", help="a trial ends without improvement (default: off)"
    )
    budget.add_argument("--trial-timeout", metavar="30m", help="a trial that takes longer has failed")

    cluster = parser.add_argument_group("machine")
    cluster.add_argument("--trial-cpus", type=float)
    cluster.add_argument("--trial-gpus", type=float, help="fractions allowed; 2 or more: a trial on several GPUs")
    cluster.add_argument("--ray-address", help="default: $RAY_ADDRESS, else Ray on this machine")
    cluster.add_argument("--tracking-uri", help="default: $MLFLOW_TRACKING_URI, else a server of our own")
    cluster.add_argument("--storage", metavar="FOLDER|URI", help="what all nodes share (default: $CTSEARCH_STORAGE)")
    cluster.add_argument("--preflight", action="store_true", default=None, help="only look at every node, and end")
    cluster.add_argument("--bad-nodes", choices=BAD_NODES, help="that fail the preflight (default: refuse to begin)")
    cluster.add_argument("--seed", type=int, help="decides splits, trials, weights and batches (default: 0)")
    cluster.add_argument("--deterministic", action="store_true", default=None, help="fp32 and deterministic kernels")
    cluster.add_argument("--compile", action="store_true", default=None, help="train through torch.compile")
    cluster.add_argument(
        "--checkpoint-budget", metavar="20GB", help="most that all checkpoints hold (default: half of the free disk)"
    )
    cluster.add_argument("--timings", action="store_true", default=None, help="tell where the start's time goes")


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """The options of a single training: those of a search that make sense for it."""
    parser.add_argument("--recipe", required=True, metavar="NAME", help="see `ctsearch recipes`")
    parser.add_argument("--data", type=Path, help="as for a search (default: the made set)")
    parser.add_argument("--weights", action="append", metavar="ARCH=FILE", help="pretrained weights, or `imagenet`")
    parser.add_argument("--arch", metavar="NET", help="another net under the same recipe")
    parser.add_argument("--name", help="name of the training and of its folder (default: its date and time)")
    parser.add_argument("--home", type=Path, help="folder of all searches (default: $CTSEARCH_HOME, else ~/.ctsearch)")
    parser.add_argument("--model-name", help="name in the model registry (default: from the data's name)")
    parser.add_argument("--positive", metavar="CLASS", help="which of two classes is the disease (default: guessed)")
    parser.add_argument("--patient-from", metavar="REGEX", help="take the patient from each file's name")
    parser.add_argument("--skip-bad-images", action="store_true", default=None, help="leave them out and count them")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="default: the recipe's")
    parser.add_argument("--max-epochs", type=int, help="default: the recipe's; its stages are fractions of them")
    parser.add_argument("--patience", type=int, metavar="EPOCHS", help="default: the recipe's")
    parser.add_argument("--metric", choices=METRICS, help="on validation (default: auc)")
    parser.add_argument("--tracking-uri", help="default: $MLFLOW_TRACKING_URI, else a server of our own")
    parser.add_argument("--seed", type=int, help="decides splits, weights and batches (default: 0)")
    parser.add_argument("--deterministic", action="store_true", default=None, help="fp32 and deterministic kernels")


def read_config(args: argparse.Namespace) -> SearchConfig:
    """Raises ValueError in the user's own words."""
    given = {key: value for key, value in vars(args).items() if value is not None}
    taken: dict[str, Any] = {key: given[key] for key in SearchConfig.__dataclass_fields__ if key in given}
    renamed = {"gpu_hours": "device_hours"}
    taken |= {new: given[old] for old, new in renamed.items() if old in given}
    for option in ("time_budget", "trial_timeout"):
        if option in given:
            taken[f"{option}_s"] = parse_duration_s(given[option])
    if "checkpoint_budget" in given:
        taken["checkpoint_budget_bytes"] = parse_bytes(given["checkpoint_budget"])
    if "arch" in given:
        taken["architectures"] = tuple(part.strip() for part in given["arch"].split(",") if part.strip())
    if "recipes" in given:
        names = tuple(dict.fromkeys(part.strip() for part in given["recipes"].split(",") if part.strip()))
        taken["recipes"] = tuple(RECIPES) if names == ("all",) else names
    ranges = dict(split_pair("--range", text) for text in given.get("range", []))
    if "lr" in given:
        ranges["learning_rate"] = given["lr"]
    weights = [("imagenet", "") if t == "imagenet" else split_pair("--weights", t) for t in given.get("weights", [])]
    taken["ranges"] = ranges
    taken["weights"] = {name: file and str(Path(file).expanduser().absolute()) for name, file in weights}
    return SearchConfig(**taken)


def split_pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"{option} is {text!r}; it must be NAME=VALUE")
    return name.strip(), value.strip()


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if list(argv[:1]) == ["server"]:  # with options of its own, that work where only MLflow is installed as well
        from mlflow_server.cli import main as serve

        return serve(argv[1:])
    args = build_parser().parse_args(argv)
    try:
        if args.command == "ui":
            from mlflow_server.serve import serve_ui

            serve_ui((args.home or default_home()).expanduser().absolute() / "mlflow", args.port)
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
            )
        if args.command == "export":
            from search.commands.classify import export_onnx

            home = (args.home or default_home()).expanduser().absolute()
            export_onnx(args.onnx, model=args.model, home=home, tracking_uri=args.tracking_uri)
            return 0
        if args.command == "train":
            return run_train(args)
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
        print(f"ctsearch: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ctsearch: ended at once; `ctsearch search --resume NAME` goes on", file=sys.stderr)
        return 130


def run_train(args: argparse.Namespace) -> int:
    from search.commands.train import train_recipe
    from trainable.recipes import find_recipe

    recipe = find_recipe(args.recipe)
    if args.arch:
        recipe = replace(recipe, params={**recipe.params, "architecture": args.arch})
    for option in ("image_size", "max_epochs", "patience"):
        if getattr(args, option) is None:
            setattr(args, option, getattr(recipe, option))
    args.arch = None
    return train_recipe(recipe, read_config(args))


def run_search(args: argparse.Namespace) -> int:
    from search.observers.timings import process_began_at_s
    from search.run import resume, run

    began_at_s = process_began_at_s()

    if args.resume:
        free = {"command", "home", "resume", "ray_address", "storage"}
        if given := {name for name, value in vars(args).items() if value is not None} - free:
            raise ValueError(
                f"--resume goes on as the search began; it takes no other option than --home, --ray-address and "
                f"--storage, got: {', '.join(sorted(given))}"
            )
        return resume(
            args.resume,
            home=args.home or default_home(),
            ray_address=args.ray_address,
            storage=args.storage or default_storage(),
            began_at_s=began_at_s,
        )
    if args.preflight:
        from search.engine.preflight import preflight

        return preflight(read_config(args))
    return run(read_config(args), began_at_s=began_at_s)


if __name__ == "__main__":
    sys.exit(main())
