"""From cached pixels to batches on the trial's device: where a split lies, and in which order an epoch takes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

RESIDENT_SHARE = 0.5
"""Of the free GPU memory: a set that fits in it stays on the device, another is sent batch by batch."""


def take_rows(pixels: np.ndarray, mask: np.ndarray, device: torch.device) -> Tensor:
    """The images uint8 (M, S, S[, C]) of `pixels` (N, S, S[, C]) where `mask` bool (N,) is true, at the place where
    training reads them.

    That is the device itself if they fit there, else pinned memory of the host, from which a GPU fetches batches by
    itself. On a CPU, rows that lie next to each other stay a view of the mapped file, which all trials of a node
    share; others are copied. Never write to the result in place.
    """
    rows = np.flatnonzero(mask)
    is_one_run = len(rows) > 0 and rows[-1] - rows[0] + 1 == len(rows)
    taken = torch.from_numpy(np.asarray(pixels[rows[0] : rows[-1] + 1] if is_one_run else pixels[rows]))
    if device.type != "cuda":
        return taken.to(device)
    num_free_bytes, _ = torch.cuda.mem_get_info(device)
    return taken.to(device) if taken.nbytes <= RESIDENT_SHARE * num_free_bytes else taken.pin_memory()


def draw_batches(num_images: int, batch_size: int, generator: torch.Generator, *, least: int = 2) -> list[Tensor]:
    """Indices int64 of an epoch's batches: every image once, in an order drawn from `generator`.

    A last batch of fewer than `least` images is left out, since batch norm cannot be trained on a single one, unless
    all are as small or it is the only one.
    """
    order = torch.randperm(num_images, generator=generator)
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) < min(least, batch_size):
        batches.pop()
    return batches


def fetch_batches(pixels: Tensor, batches: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
    """The images uint8 (n, S, S[, C]) of each batch on `device`; `pixels` (N, S, S[, C]) as `take_rows` placed them.

    From the host's memory to a GPU, the next batch is on its way while this one is trained on.
    """
    if pixels.device.type == device.type or device.type != "cuda":
        for rows in batches:
            yield pixels[rows.to(pixels.device)].to(device)
        return
    stream = torch.cuda.Stream(device)
    current = torch.cuda.current_stream(device)

    def send(rows: Tensor) -> Tensor:
        gathered = torch.empty((len(rows), *pixels.shape[1:]), dtype=pixels.dtype, pin_memory=True)
        torch.index_select(pixels, 0, rows, out=gathered)
        with torch.cuda.stream(stream):
            return gathered.to(device, non_blocking=True)

    coming = send(batches[0]) if batches else None
    for following in [*batches[1:], None]:
        current.wait_stream(stream)
        ready = coming
        assert ready is not None
        ready.record_stream(current)
        coming = send(following) if following is not None else None
        yield ready
