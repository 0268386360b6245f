"""How many trials one device trains at once with profit: measured with as many processes, never guessed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainable.config import TrialConfig
from trainable.measured import remember

COUNTS = (1, 2, 4)
LEAST_GAIN = 1.15
"""How much more the device must train in all for twice the trials: each takes longer, and ASHA decides later."""


def pick_extremes(configs: Sequence[TrialConfig]) -> list[TrialConfig]:
    """Of all, the model with the fewest parameters and the one with the most: what a device must suit."""
    import torch

    from trainable.architectures import build_model

    def count_parameters(config: TrialConfig) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build_model(config, 2).parameters())

    ordered = sorted(configs, key=count_parameters)
    return ordered[:1] if len(ordered) < 2 else [ordered[0], ordered[-1]]


def choose_count(rates: Mapping[int, Sequence[float]]) -> int:
    """The number of trials to run at once, from images a second in all, by count, one figure a model.

    The geometric mean over models must grow by LEAST_GAIN at every step; a rate of 0 says that they did not fit.
    """
    chosen = 1
    for count in sorted(rates)[1:]:
        if min(rates[chosen]) <= 0:
            break
        gains = [rate / before for rate, before in zip(rates[count], rates[chosen], strict=True)]
        if min(gains) <= 0 or math.prod(gains) ** (1 / len(gains)) < LEAST_GAIN:
            break
        chosen = count
    return chosen


def measure_sharing(
    configs: Sequence[TrialConfig],
    *,
    image_size: int,
    num_threads: int,
    counts: Sequence[int] = COUNTS,
    window_s: float = 3.0,
    cache_file: Path | None = None,
    num_channels: int = 1,
) -> dict[int, list[float]]:
    """Images a second that the first GPU, else the CPU, trains in all, for each of `configs`, by number of processes.

    Stops where more processes gain nothing. With `cache_file` (JSON, one for all searches of a node) what was measured
    once for these models, sizes and versions is read ever after. Half a minute a model where nothing is known.
    """
    from trainable.step_plan import name_step, pick_device

    order = {"image_size": image_size, "num_threads": num_threads, "num_channels": num_channels}
    step: dict[str, Any] = order | {"device": pick_device()}
    key = "; ".join(f"{name_step(config, **step)[1]}, batch {config.batch_size}" for config in configs)
    return remember(
        cache_file,
        key,
        lambda: _measure(configs, order, counts, window_s),
        show=dict,
        read=lambda known: {int(count): [float(rate) for rate in rates] for count, rates in known.items()},
    )


def _measure(
    configs: Sequence[TrialConfig], step: Mapping[str, int], counts: Sequence[int], window_s: float
) -> dict[int, list[float]]:
    rates: dict[int, list[float]] = {}
    for count in counts:
        rates[count] = [_train_at_once(config, step, count, window_s) for config in configs]
        if choose_count(rates) != count or min(rates[count]) <= 0:
            break
    return rates


def _train_at_once(config: TrialConfig, step: Mapping[str, int], count: int, window_s: float) -> float:
    """Images a second of `count` processes together; 0 where one of them failed, for want of memory say."""
    order = {"config": config.to_params(), "window_s": window_s, **step}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "trainable.sharing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        for _ in range(count)
    ]
    try:
        for process in processes:
            _send_line(process, json.dumps(order))
        if any(_receive_line(process) != "ready" for process in processes):
            return 0.0
        for process in processes:
            _send_line(process, "go")
        answers = [_receive_line(process) for process in processes]
        return sum(float(answer) for answer in answers) if all(answers) else 0.0
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _send_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _receive_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def train_for_a_while(order: Mapping[str, Any]) -> float:
    """One of the processes: images a second over a window of real epochs on made-up images."""
    import torch

    from trainable.rehearsal import Rehearsal
    from trainable.step_plan import measure_step_plan, pick_device

    config, device = TrialConfig.from_params(order["config"]), pick_device()
    shape = {"image_size": order["image_size"], "num_channels": order["num_channels"]}
    torch.set_num_threads(order["num_threads"])
    plan = measure_step_plan(config, device=device, num_threads=order["num_threads"], **shape)
    rehearsal = Rehearsal(config, num_images=4 * config.batch_size, device=device, **shape)

    def train() -> int:
        result = rehearsal.train(plan)
        if result.micro_batch is not None:
            raise MemoryError("a batch does not fit beside the others")
        return result.num_images

    train()
    print("ready", flush=True)
    sys.stdin.readline()
    began_s, num_images = time.perf_counter(), 0
    while time.perf_counter() - began_s < order["window_s"]:
        num_images += train()
    return num_images / (time.perf_counter() - began_s)


if __name__ == "__main__":
    print(train_for_a_while(json.loads(sys.stdin.readline())), flush=True)
