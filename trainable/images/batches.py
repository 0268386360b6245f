"""From cached pixels to batches: which rows a split holds, and in which order an epoch takes them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def take_rows(pixels: np.ndarray, mask: np.ndarray, device: torch.device) -> Tensor:
    """The pictures uint8 (M, S, S) of `pixels` (N, S, S) where `mask` bool (N,) is true, on `device`.

    On a CPU, rows that lie next to each other stay a view of the mapped file, which all trials of a node
    share; others are copied. Never write to the result in place.
    """
    rows = np.flatnonzero(mask)
    is_one_run = len(rows) > 0 and rows[-1] - rows[0] + 1 == len(rows)
    taken = pixels[rows[0] : rows[-1] + 1] if is_one_run else pixels[rows]
    return torch.from_numpy(np.asarray(taken)).to(device)


def draw_batches(num_images: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Indices int64 of an epoch's batches: every picture once, in an order drawn from `generator`.

    A last batch of one picture is left out, since batch norm cannot be trained on it, unless it is the only
    one.
    """
    order = torch.randperm(num_images, generator=generator)
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1 < batch_size:
        batches.pop()
    return batches
