"""`ctsearch models`: every architecture with what it costs on this machine, or the layers of one."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console
from rich.progress import track
from rich.table import Table

from search.preparation.models import KNOWN, check_timm
from trainable.config import is_timm
from trainable.suggest import did_you_mean

MOST = 4096
"""Pixels, images of a step and threads that are measured."""
COLUMNS = ("architecture", "parameters", "mult-adds", "least", "a step", "images/s", "plan")


def show_models(
    names: Sequence[str], *, image_size: int, batch_size: int, num_threads: int | None, console: Console | None = None
) -> None:
    """A table of `names`, by default of all but timm's, each trained for a moment. Raises ValueError for an unknown one
    and for an image size that one does not take."""
    from trainable.model_facts import measure_model
    from trainable.step_plan import name_device, pick_device

    check_names(names)
    _check_sizes(image_size=image_size, batch_size=batch_size, threads=num_threads)
    console = console or Console()
    num_threads = num_threads or os.cpu_count() or 1
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in COLUMNS:
        is_text = title in ("architecture", "plan")
        table.add_column(title, justify="left" if is_text else "right", no_wrap=title != "plan")
    for name in track(names or KNOWN, "measuring", console=console, transient=True):
        facts = measure_model(name, image_size=image_size, batch_size=batch_size, num_threads=num_threads)
        table.add_row(
            facts.name,
            f"{facts.num_parameters / 1e6:.2f} M",
            f"{facts.num_mult_adds / 1e9:.3f} G",
            f"{facts.least_image_size} px",
            f"{facts.step_bytes / 1e6:,.0f} MB",
            f"{facts.images_per_s:,.1f}",
            facts.plan,
        )
    device = pick_device()
    memory = "measured" if device.type == "cuda" else "weights, gradients, moments and activations in fp32"
    console.print(table)
    console.print(
        f"Images of {image_size} px; training steps of {batch_size} on {name_device(device, num_threads)}. "
        f"Mult-adds: one image forward. A step's memory: {memory}.",
        highlight=False,
    )


def check_names(names: Sequence[str]) -> None:
    """Raises ValueError for a name that is neither known nor timm's; of timm's the nearest ones are named."""
    for name in names:
        if is_timm(name):
            check_timm(name)
        elif name not in KNOWN:
            raise ValueError(
                f"unknown architecture {name!r}{did_you_mean(name, KNOWN)}; it must be one of {', '.join(KNOWN)}, or "
                "timm:NAME"
            )


def _check_sizes(**sizes: int | None) -> None:
    """Raises ValueError for the first that is not above 0, or is too large for any memory."""
    for name, value in sizes.items():
        if value is not None and not 1 <= value <= MOST:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be between 1 and {MOST}")


def show_layers(name: str, *, image_size: int, console: Console | None = None) -> None:
    """The layers of one architecture, with output shapes and parameter counts (torchinfo). Raises ValueError."""
    from trainable.model_facts import summarise_layers

    check_names([name])
    _check_sizes(image_size=image_size)
    console = console or Console()
    console.print(str(summarise_layers(name, image_size=image_size)), markup=False, highlight=False, soft_wrap=True)
