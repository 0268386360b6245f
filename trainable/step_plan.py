"""Precision and memory layout of a training step: measured once per architecture, size and device, then remembered."""

from __future__ import annotations

import platform
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trainable.architectures import check_image_size
from trainable.config import MEMORY_FORMATS, StepPlan, TrialConfig
from trainable.measured import remember
from trainable.rehearsal import Rehearsal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STOCK = StepPlan()
LEAST_GAIN = 1.05  # how many times faster than the stock plan another one must be
_BATCH_SIZES = {"cpu": 8, "cuda": 64}
_MEASURE_S = 0.6
_MAX_ROUNDS = 8
_HOPELESS = 3.0  # a first step this many times slower than the fastest first step is not looked at again


def pick_device() -> torch.device:
    """The first GPU that this process may use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def name_device(device: torch.device, num_threads: int) -> str:
    """What a step's speed hangs on: the GPU, or the CPU with its instructions and torch's threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_name_cpu()}, {torch.backends.cpu.get_cpu_capability()}, {num_threads} threads"


def name_step(
    config: TrialConfig, *, image_size: int, device: torch.device, num_threads: int, num_channels: int = 1
) -> tuple[str, str]:
    """The device's name, and the key under which the plan of this step is remembered."""
    name = name_device(device, num_threads)
    architecture = config.architecture
    if architecture == "small_cnn":
        architecture += f" {config.cnn_depth}x{config.cnn_filters}x{config.cnn_kernel}"
        architecture += f" pool {config.cnn_pool}" * (config.cnn_pool != 2) + " without norm" * (not config.cnn_norm)
    channels = f" x {num_channels} channels" * (num_channels != 1)
    return name, f"{architecture}, {image_size} px{channels}, {name}, torch {torch.__version__}"


def measure_step_plan(
    config: TrialConfig,
    *,
    image_size: int,
    device: torch.device,
    num_threads: int,
    num_channels: int = 1,
    cache_file: Path | None = None,
    source: str | None = None,
) -> StepPlan:
    """The fastest plan for training the architecture of `config` on images of `image_size` pixels on `device`.

    Times real steps on made-up images, about a second for a small architecture on a CPU; another plan than the stock
    one must be 5 % faster. With `cache_file` (JSON, one for all processes of a node) a choice made once is
    read ever after and no two processes measure at a time. `source` is that of `build_model`.
    """
    check_image_size(config, image_size)
    with num_threads_set_to(num_threads):
        step = {"image_size": image_size, "num_threads": num_threads, "num_channels": num_channels}
        _, key = name_step(config, device=device, **step)
        return remember(
            cache_file,
            key,
            lambda: _measure(config, image_size, num_channels, device, source),
            show=asdict,
            read=lambda known: StepPlan(**known),
        )


def list_candidates(device: torch.device) -> list[StepPlan]:
    """The plans worth timing on a device, the stock plan first."""
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        precisions = ["fp32", "bf16" if has_bf16 else "fp16"]
    else:
        has_bf16 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        precisions = ["fp32", "bf16"] if has_bf16 else ["fp32"]
    return [StepPlan(precision=p, memory_format=layout) for p in precisions for layout in MEMORY_FORMATS]


def choose_plan(seconds: dict[StepPlan, float]) -> StepPlan:
    """The fastest plan by measured `seconds` a step, if it beats the stock plan by the margin."""
    fastest = min(seconds, key=lambda plan: seconds[plan])
    return fastest if seconds[STOCK] >= LEAST_GAIN * seconds[fastest] else STOCK


def _measure(
    config: TrialConfig, image_size: int, num_channels: int, device: torch.device, source: str | None
) -> StepPlan:
    batch_size = _BATCH_SIZES[device.type]
    config = replace(config, batch_size=batch_size, optimizer="sgd", momentum=0, augmentation=0)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        rehearsal = Rehearsal(
            config,
            image_size=image_size,
            num_images=batch_size,
            device=device,
            num_channels=num_channels,
            source=source,
        )
        return choose_plan(_time_in_turns(list_candidates(device), lambda plan: rehearsal.train(plan).seconds))


def _time_in_turns(candidates: list[StepPlan], time_step: Callable[[StepPlan], float]) -> dict[StepPlan, float]:
    """The least seconds of each plan over a few rounds, in turns, so that a busy moment hits all alike."""
    first_steps: dict[StepPlan, float] = {}
    for plan in candidates:
        try:
            first_steps[plan] = time_step(plan)
        except (RuntimeError, FloatingPointError):  # a user's architecture need not know every plan
            if plan == STOCK:
                raise
    limit_s = _HOPELESS * min(first_steps.values())
    seconds = {plan: first_s for plan, first_s in first_steps.items() if first_s <= limit_s or plan == STOCK}
    began_s = time.perf_counter()
    for _ in range(_MAX_ROUNDS):
        for plan in seconds:
            seconds[plan] = min(seconds[plan], time_step(plan))
        if time.perf_counter() - began_s > _MEASURE_S:
            break
    return seconds


@contextmanager
def num_threads_set_to(num_threads: int) -> Iterator[None]:
    """Torch's threads on a CPU for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _name_cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
