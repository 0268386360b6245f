"""Memory of four trials on one node with a set of 500 MB: they share one copy.

    python benchmarks/shared_set.py

Four real trials under Ray train a model of one layer for an epoch, first on a set of 1 MB, then on one of 500 MB. The
proportional set size (PSS, proc(5)) of the four workers is added up while they train; the most that the large set adds
is given as a multiple of the set. Goal: 1.1. Linux only. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the script's folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import ray
from ray import tune

from search.engine.cluster import connect
from trainable.config import TrialSettings
from trainable.images.prepare import TrainingData
from trainable.task import TrialTask
from trainable.trial import Trial

IMAGE_SIZE = 96
MODEL = """
from torch import nn

def build(num_classes):
    return nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(36, num_classes))
"""


class TrialWithPid(Trial):
    def step_with_pid(self) -> dict[str, Any]:
        result = self.step()
        if "error" in result:
            raise RuntimeError(result["traceback"])
        return result

    def pid(self) -> int:
        import os

        return os.getpid()


def make_task(num_bytes: int, folder: Path) -> TrialTask:
    """A set of noise of about `num_bytes`, a tenth of it for validation."""
    num_images = num_bytes // IMAGE_SIZE**2
    file = folder / f"{num_bytes}.npy"
    pixels = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(num_images, IMAGE_SIZE, IMAGE_SIZE))
    draw = np.random.default_rng(0)
    for begin in range(0, num_images, 4096):
        block = pixels[begin : begin + 4096]
        block[:] = draw.integers(0, 256, block.shape, dtype=np.uint8)
    pixels.flush()
    data = TrainingData(
        name="noise",
        data_hash="noise",
        classes=("covid", "normal"),
        positive=0,
        image_size=IMAGE_SIZE,
        pixels_path=str(file),
        labels=np.arange(num_images, dtype=np.int64) % 2,
        is_val=np.arange(num_images) >= 0.9 * num_images,
        groups=np.arange(num_images, dtype=np.int64),
    )
    settings = TrialSettings(classes=data.classes, positive=0, image_size=IMAGE_SIZE, max_epochs=1, deterministic=True)
    return TrialTask(
        search="shared-set",
        settings=settings,
        data=data,
        trials_uri=str(folder / f"trials-{num_bytes}"),
        node_dir=str(folder),
        sources={"model.py:build": MODEL},
    )


def read_pss_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def measure_peak(task: TrialTask, num_trials: int) -> int:
    """The most bytes that the trials' processes hold together during an epoch."""
    actor = ray.remote(tune.with_parameters(TrialWithPid, task=task)).options(num_cpus=1)
    config = {"params": {"architecture": "model.py:build", "batch_size": 64}, "run_id": None, "plans": {}}
    trials = [actor.remote(config=config | {"number": number}) for number in range(num_trials)]
    pids = ray.get([trial.pid.remote() for trial in trials])
    waiting, peak = [trial.step_with_pid.remote() for trial in trials], 0
    while waiting:
        peak = max(peak, sum(map(read_pss_bytes, pids)))
        done, waiting = ray.wait(waiting, timeout=0)
        ray.get(done)
        time.sleep(0.2)
    for trial in trials:
        ray.kill(trial)
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-trials", type=int, default=4)
    parser.add_argument("--set-mb", type=int, default=500)
    args = parser.parse_args()
    ray.init(address="local", num_cpus=args.num_trials, include_dashboard=False, log_to_driver=False)
    connect(None)
    with tempfile.TemporaryDirectory() as folder:
        set_bytes = args.set_mb * 10**6
        small, large = (measure_peak(make_task(size, Path(folder)), args.num_trials) for size in (10**6, set_bytes))
    ray.shutdown()
    line = {
        "benchmark": "shared_set",
        "num_trials": args.num_trials,
        "set_mb": args.set_mb,
        "small_set_mb": round(small / 1e6),
        "large_set_mb": round(large / 1e6),
        "ratio": round((large - small) / set_bytes, 3),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
