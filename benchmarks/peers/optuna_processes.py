"""Optuna alone, in as many processes as there are cores: a journal file, successive halving, and MLflow by hand.

    python benchmarks/peers/optuna_processes.py --images images.csv --folder optuna/ --num-trials 20 [--form expert]

It follows https://optuna.readthedocs.io/en/latest/tutorial/10_key_features/004_distributed.html (processes over one
journal), https://optuna.readthedocs.io/en/latest/tutorial/10_key_features/003_efficient_optimization_algorithms.html
(report and prune) and https://mlflow.org/docs/latest/ml/getting-started/hyperparameter-tuning/ (a parent run and a
nested run a trial). Its processes train one trial after another in either form.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

if __name__ == "__main__":  # as a script, its own folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import mlflow
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState

from benchmarks.peers import training
from benchmarks.peers.training import Configuration, Task

BEGUN = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def suggest(trial: optuna.Trial) -> Configuration:
    return {
        "architecture": trial.suggest_categorical("architecture", training.ARCHITECTURES),
        "optimizer": trial.suggest_categorical("optimizer", training.OPTIMIZERS),
        "learning_rate": trial.suggest_float("learning_rate", *training.LEARNING_RATES, log=True),
        "weight_decay": trial.suggest_float("weight_decay", *training.WEIGHT_DECAYS, log=True),
        "batch_size": trial.suggest_categorical("batch_size", training.BATCH_SIZES),
        "augmentation": trial.suggest_categorical("augmentation", training.AUGMENTATIONS),
    }


def open_study(folder: Path, seed: int) -> optuna.Study:
    return optuna.create_study(
        study_name=folder.name,
        storage=JournalStorage(JournalFileBackend(str(folder / "optuna.journal"))),
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=training.REDUCTION_FACTOR),
        direction="maximize",
        load_if_exists=True,
    )


def optimise(task: Task, *, seed: int, num_trials: int | None, end_s: float | None, parent_run_id: str) -> None:
    """What one process does."""
    mlflow.set_experiment(task.folder.name)

    def objective(trial: optuna.Trial) -> float:
        configuration = suggest(trial)
        best = 0.0
        with mlflow.start_run(run_name=f"trial_{trial.number}", nested=True, parent_run_id=parent_run_id):
            mlflow.log_params(configuration)
            for metrics, _ in training.train(configuration, task):
                epoch = int(metrics["epoch"])
                mlflow.log_metrics(metrics, step=epoch)
                best = max(best, metrics["val_auc"])
                trial.report(metrics["val_auc"], epoch)
                if trial.should_prune() or (end_s is not None and time.time() > end_s):
                    raise optuna.TrialPruned
        return best

    open_study(task.folder, seed).optimize(
        objective,
        timeout=None if end_s is None else end_s - time.time(),
        callbacks=[] if num_trials is None else [MaxTrialsCallback(num_trials, states=BEGUN)],
    )


def main() -> None:
    args = training.read_arguments(__doc__)
    task = Task.from_arguments(args)
    end_s = None if args.minutes is None else time.time() + 60 * args.minutes
    study = open_study(task.folder, args.seed)
    for configuration in args.configurations:
        study.enqueue_trial(configuration)
    mlflow.set_experiment(task.folder.name)
    num_processes = os.cpu_count() or 1
    with mlflow.start_run(run_name="study") as parent, ProcessPoolExecutor(num_processes) as processes:
        ended = [
            processes.submit(
                optimise,
                task,
                seed=args.seed + number,
                num_trials=args.num_trials,
                end_s=end_s,
                parent_run_id=parent.info.run_id,
            )
            for number in range(num_processes)
        ]
        for process in ended:
            process.result()
    print(study.best_trial.params, study.best_value)


if __name__ == "__main__":
    main()
