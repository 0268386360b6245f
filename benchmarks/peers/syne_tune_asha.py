# mypy: disable-error-code="import-not-found,import-untyped"
"""Syne Tune's ASHA on its local backend, which runs `syne_tune_train.py` once a trial. Needs the extra `peers`.

    python benchmarks/peers/syne_tune_asha.py --images images.csv --folder syne/ --num-trials 20 [--form expert]

It follows https://github.com/syne-tune/syne-tune/blob/main/examples/launch_height_simple.py and
https://syne-tune.readthedocs.io/en/latest/getting_started.html. Those know no MLflow, and none is logged here. The
expert form looks for results ten times a second, where the default is every five seconds; Syne Tune has no workers to
reuse.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # as a script, its own folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend import LocalBackend
from syne_tune.config_space import choice, loguniform
from syne_tune.optimizer.baselines import ASHA

from benchmarks.peers import training

SPACE = {
    "architecture": choice(list(training.ARCHITECTURES)),
    "optimizer": choice(list(training.OPTIMIZERS)),
    "learning_rate": loguniform(*training.LEARNING_RATES),
    "weight_decay": loguniform(*training.WEIGHT_DECAYS),
    "batch_size": choice(list(training.BATCH_SIZES)),
    "augmentation": choice(list(training.AUGMENTATIONS)),
}


def main() -> None:
    args = training.read_arguments(__doc__)
    os.environ["SYNETUNE_FOLDER"] = str(args.folder)
    shared = {name: str(getattr(args, name)) for name in training.Task.__dataclass_fields__}
    scheduler = ASHA(
        {**SPACE, **shared},
        metric="val_auc",
        time_attr="epoch",
        max_t=args.max_epochs,
        do_minimize=False,
        grace_period=1,
        reduction_factor=training.REDUCTION_FACTOR,
        random_seed=args.seed,
        points_to_evaluate=args.configurations,
    )
    if args.num_trials is None:
        criterion = StoppingCriterion(max_wallclock_time=60 * args.minutes)
    else:  # it stops at more than so many
        criterion = StoppingCriterion(max_num_trials_started=args.num_trials - 1)
    tuner = Tuner(
        trial_backend=LocalBackend(entry_point=str(Path(__file__).with_name("syne_tune_train.py"))),
        scheduler=scheduler,
        stop_criterion=criterion,
        n_workers=os.cpu_count() or 1,
        wait_trial_completion_when_stopping=args.num_trials is not None,
        max_failures=1000,
        **({"sleep_time": 0.1} if args.form == "expert" else {}),
    )
    tuner.run()


if __name__ == "__main__":
    main()
