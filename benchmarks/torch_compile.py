"""Whether torch.compile pays within a trial: what it costs at the start, and what a step gains by it afterwards.

    python benchmarks/torch_compile.py
    python benchmarks/torch_compile.py --nets small_cnn --image-size 32 --batch-size 8 --steps 4

For each architecture, in the plan measured for it: epochs of `Trainer.train_epoch` without and with `torch.compile`, in
turns. `compile_s` is by how much the first epochs of a compiled model last longer than later ones, with an empty cache
of compiled code; `recompile_s` the same for a new model in the same process, with that cache: what the second trial of
an architecture pays on a node. `images_to_pay` counts the images after which the gain has paid for each, null where
there is none. `process_s` is what any first compilation costs a process, imports included; it comes on top.

All batches are full, and the epochs begin behind a trial's first ten steps: others run without compiled code, where a
smaller batch, and each value of batch norm's changing momentum, would have to be compiled anew.

Needs a C++ compiler where the device is a CPU. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a script, benchmarks/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor

from trainable.architectures import build_model
from trainable.config import StepPlan, TrialConfig
from trainable.step_plan import measure_step_plan, name_step, pick_device
from trainable.trainer import Trainer
from trainable.worker_memory import keep_freed_memory

NUM_CORES = len(os.sched_getaffinity(0))
FIRST_EPOCH = 11  # batch norm's momentum is constant from here on, however few steps an epoch has
FIRST_EPOCHS = 2  # that may compile something
ROUNDS = 5


def start_trial(
    config: TrialConfig, plan: StepPlan, pixels: Tensor, labels: Tensor, *, is_compiled: bool
) -> Callable[[], float]:
    """A new model in training: each call trains an epoch and gives its seconds."""
    model = build_model(config, 2)
    trainer = Trainer(model, config, max_epochs=1, device=pixels.device, plan=plan, compile=is_compiled)
    trainer.lr_at = lambda _: config.learning_rate
    epochs = itertools.count(FIRST_EPOCH)

    def run_epoch() -> float:
        return trainer.train_epoch(pixels, labels, next(epochs)).seconds

    return run_epoch


def time_first_compilation(device: torch.device) -> float:
    began_s = time.perf_counter()
    torch.compile(torch.nn.Sigmoid())(torch.ones(64, device=device))
    return time.perf_counter() - began_s


def compare(config: TrialConfig, plan: StepPlan, pixels: Tensor, labels: Tensor) -> dict[str, Any]:
    torch.compiler.reset()
    eager = start_trial(config, plan, pixels, labels, is_compiled=False)
    compiled = start_trial(config, plan, pixels, labels, is_compiled=True)
    first_s = sum(compiled() for _ in range(FIRST_EPOCHS))
    eager()
    rounds = [(eager(), compiled()) for _ in range(ROUNDS)]
    torch.compiler.reset()
    again = start_trial(config, plan, pixels, labels, is_compiled=True)
    again_s = sum(again() for _ in range(FIRST_EPOCHS))

    eager_s, compiled_s = (statistics.median(column) for column in zip(*rounds, strict=True))
    costs = {"compile_s": first_s - FIRST_EPOCHS * compiled_s, "recompile_s": again_s - FIRST_EPOCHS * compiled_s}
    ratio = statistics.median(without_s / with_s for without_s, with_s in rounds)
    gain_s = eager_s * (1 - 1 / ratio) / len(pixels)
    return {
        "plan": asdict(plan),
        **{name: round(cost_s, 2) for name, cost_s in costs.items()},
        "eager_images_per_s": round(len(pixels) / eager_s, 1),
        "compiled_images_per_s": round(len(pixels) / compiled_s, 1),
        "compiled_to_eager": round(ratio, 3),
        "images_to_pay": {name: round(cost_s / gain_s) if gain_s > 0 else None for name, cost_s in costs.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=pick_device())
    parser.add_argument("--nets", default="small_cnn,mobilenet_v3_small,resnet18")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12, help="in an epoch")
    args = parser.parse_args()
    device: torch.device = args.device
    compilers = (os.environ.get("CXX") or "c++", "g++", "clang++")
    if device.type == "cpu" and not any(map(shutil.which, compilers)):
        parser.error(f"torch.compile needs a C++ compiler on a CPU, and none of {', '.join(compilers)} is there")
    step = {"image_size": args.image_size, "device": device, "num_threads": NUM_CORES}
    name, _ = name_step(TrialConfig(architecture="small_cnn"), **step)
    result: dict[str, Any] = {"benchmark": "torch_compile", "device": name, "num_cores": NUM_CORES}
    result |= {"torch": torch.__version__, "python": platform.python_version(), "image_size": args.image_size}
    result |= {"batch_size": args.batch_size, "steps": args.steps}
    num_images = args.steps * args.batch_size
    pixels = torch.randint(0, 256, (num_images, args.image_size, args.image_size), dtype=torch.uint8, device=device)
    labels = torch.arange(num_images, device=device) % 2
    keep_freed_memory()
    torch.set_num_threads(NUM_CORES)
    with tempfile.TemporaryDirectory() as empty_cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty_cache
        os.environ["TRITON_CACHE_DIR"] = empty_cache
        result |= {"process_s": round(time_first_compilation(device), 2), "nets": {}}
        for architecture in args.nets.split(","):
            config = TrialConfig(architecture=architecture, batch_size=args.batch_size)
            result["nets"][architecture] = compare(config, measure_step_plan(config, **step), pixels, labels)
            print(f"{architecture}: {result['nets'][architecture]}", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
