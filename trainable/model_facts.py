"""What a model costs: its parameters, multiply-adds and memory, and how fast this machine trains it."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import torch
import torchinfo

from trainable.architectures import build_model, check_image_size, least_image_size
from trainable.config import StepPlan, TrialConfig
from trainable.rehearsal import Rehearsal
from trainable.step_plan import measure_step_plan, pick_device
from trainable.worker_memory import give_back, read_free_bytes

NUM_MOMENTS = 2  # of AdamW, for each parameter
MEASURE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Facts of one model for images of `image_size` pixels and two classes.

    `num_parameters`, and `num_mult_adds` of one image's forward pass; `step_bytes` of a training step with AdamW on
    `batch_size` images: measured on a GPU, elsewhere added up from weights, gradients, moments and activations in
    fp32. `images_per_s` is the training rate on this machine in the plan measured as fastest.
    """

    name: str
    num_parameters: int
    num_mult_adds: int
    image_size: int
    least_image_size: int
    batch_size: int
    step_bytes: int
    images_per_s: float
    plan: str


def summarise_layers(
    name: str, *, image_size: int, batch_size: int = 1, depth: int = 3, num_channels: int = 1
) -> torchinfo.ModelStatistics:
    """Layers with their output shapes, parameters and multiply-adds; `str` of it is a table.

    Raises ValueError for an unknown model or images too small for it.
    """
    config = TrialConfig(architecture=name)
    return _summarise(config, image_size=image_size, batch_size=batch_size, depth=depth, num_channels=num_channels)


def _summarise(
    config: TrialConfig, *, image_size: int, batch_size: int = 1, depth: int = 3, num_channels: int = 1
) -> torchinfo.ModelStatistics:
    model = build_model(config, 2, num_channels=num_channels)
    check_image_size(config, image_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchinfo's own making, on new versions of torch
        return torchinfo.summary(
            model,
            input_size=(batch_size, num_channels, image_size, image_size),
            col_names=("output_size", "num_params", "mult_adds"),
            depth=depth,
            device="cpu",
            verbose=0,
        )


def measure_model(
    name: str, *, image_size: int, batch_size: int = 16, num_threads: int, num_channels: int = 1
) -> ModelFacts:
    """Build, summarise and train a model for a moment on the first GPU, else on the CPU."""
    one = summarise_layers(name, image_size=image_size, num_channels=num_channels)
    config = TrialConfig(architecture=name, batch_size=batch_size)
    device = pick_device()
    plan = measure_step_plan(
        config, image_size=image_size, device=device, num_threads=num_threads, num_channels=num_channels
    )
    rate, peak_bytes = _train_for_a_moment(config, image_size, num_channels, device, plan, num_threads)
    return ModelFacts(
        name=name,
        num_parameters=one.total_params,
        num_mult_adds=one.total_mult_adds,
        image_size=image_size,
        least_image_size=least_image_size(name),
        batch_size=batch_size,
        step_bytes=peak_bytes or _add_up_step(one, batch_size),
        images_per_s=rate,
        plan=f"{plan.precision}, {plan.memory_format.replace('_', ' ')}",
    )


def find_obstacle(config: TrialConfig, *, image_size: int, num_at_once: int = 1, num_channels: int = 1) -> str:
    """Why this machine cannot train `config`; empty where it can.

    On a GPU training steps tell, in micro-batches where it must be. On a CPU what a step holds in fp32 is added up and
    compared with an equal part, for each of `num_at_once` trials, of the memory that is free: there nobody raises where
    memory runs out, the process dies.
    """
    device = pick_device()
    try:
        one = _summarise(config, image_size=image_size, num_channels=num_channels)
        step_bytes = _add_up_step(one, config.batch_size)
        if device.type == "cuda":
            _train_for_a_moment(config, image_size, num_channels, device, StepPlan(), num_threads=1)
            return ""
    except (ValueError, MemoryError) as error:
        return str(error)
    finally:
        give_back()
    free_bytes = read_free_bytes() / num_at_once
    if step_bytes <= free_bytes:
        return ""
    return (
        f"a training step of {config.batch_size} images of {image_size} px needs {step_bytes / 1e9:.1f} GB, and "
        f"{free_bytes / 1e9:.1f} GB are free for a trial"
    )


def _add_up_step(one: torchinfo.ModelStatistics, batch_size: int) -> int:
    """Bytes of weights, gradients, moments and activations of a step, from the summary of one image."""
    return (2 + NUM_MOMENTS) * one.total_param_bytes + batch_size * one.total_output_bytes


def _train_for_a_moment(
    config: TrialConfig, image_size: int, num_channels: int, device: torch.device, plan: StepPlan, num_threads: int
) -> tuple[float, int]:
    """Images a second, and the most bytes of GPU memory in use (0 on a CPU)."""
    rehearsal = Rehearsal(
        config,
        image_size=image_size,
        num_images=2 * config.batch_size,
        device=device,
        num_channels=num_channels,
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    threads_before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        rates: list[float] = []
        began_s = time.perf_counter()
        while len(rates) < 2 or time.perf_counter() - began_s < MEASURE_S:
            result = rehearsal.train(plan)
            rates.append(result.num_images / result.seconds)
    finally:
        torch.set_num_threads(threads_before)
    return max(rates), torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
