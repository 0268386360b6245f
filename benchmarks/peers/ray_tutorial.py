"""A Ray Tune script as its tutorials have it: OptunaSearch, ASHA, a checkpoint an epoch, and the MLflow callback.

    python benchmarks/peers/ray_tutorial.py --images images.csv --folder ray/ --num-trials 20 [--form expert]

It follows https://docs.ray.io/en/latest/tune/examples/tune-pytorch-cifar.html (the training function and its
checkpoints), https://docs.ray.io/en/latest/tune/examples/optuna_example.html (the searcher) and
https://docs.ray.io/en/latest/tune/examples/tune-mlflow.html (the callback, to MLFLOW_TRACKING_URI). The expert form
reuses actors.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":  # as a script, its own folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import ray
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.peers import training
from benchmarks.peers.training import Configuration, Task

SPACE = {
    "architecture": tune.choice(training.ARCHITECTURES),
    "optimizer": tune.choice(training.OPTIMIZERS),
    "learning_rate": tune.loguniform(*training.LEARNING_RATES),
    "weight_decay": tune.loguniform(*training.WEIGHT_DECAYS),
    "batch_size": tune.choice(training.BATCH_SIZES),
    "augmentation": tune.choice(training.AUGMENTATIONS),
}


def train_slices(config: Configuration, task: Task) -> None:
    for metrics, state in training.train(config, task):
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state, Path(folder) / "checkpoint.pt")
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def main() -> None:
    args = training.read_arguments(__doc__)
    ray.init(address="local")
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train_slices, task=Task.from_arguments(args)), {"cpu": 1}),
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            metric="val_auc",
            mode="max",
            search_alg=OptunaSearch(points_to_evaluate=args.configurations, seed=args.seed),
            scheduler=ASHAScheduler(max_t=args.max_epochs, grace_period=1, reduction_factor=training.REDUCTION_FACTOR),
            num_samples=args.num_trials or -1,
            time_budget_s=args.minutes and 60 * args.minutes,
            reuse_actors=args.form == "expert",
        ),
        run_config=tune.RunConfig(
            name="results",
            storage_path=str(args.folder),
            callbacks=[MLflowLoggerCallback(experiment_name=args.folder.name)],
        ),
    )
    best = tuner.fit().get_best_result(scope="all")
    print(best.config, best.metrics)


if __name__ == "__main__":
    main()
