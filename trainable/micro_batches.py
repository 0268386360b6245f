"""Out of memory is no crash: the gradients of a batch, summed over micro-batches as small as they must be."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainable.worker_memory import give_back

Compute = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def sum_gradients(
    compute: Compute,
    images: Tensor,
    targets: Tensor,
    *,
    micro_batch: int | None,
    forget: Callable[[], None],
    may_split: bool = True,
) -> tuple[Tensor, Tensor, int | None]:
    """Run `compute` on a batch, or on nearly equal parts of at most `micro_batch` images.

    `compute(images, targets)` adds the gradients of its part of the batch's loss and gives that part, a scalar, and
    its logits (n, C); `forget` clears gradients. Where memory runs out the whole batch is repeated in parts of half
    the size, and that size is returned with the loss and the logits (N, C): start there at the next batch.

    The sum is the full batch's gradient up to rounding, except where batch normalisation takes its statistics from
    each part. Raises MemoryError where parts of two images do not fit either, or the batch where it may not be split.
    """
    while True:
        num_parts = 1 if micro_batch is None else -(-len(images) // micro_batch)
        try:
            done = [
                compute(part, part_targets)
                for part, part_targets in zip(
                    images.tensor_split(num_parts), targets.tensor_split(num_parts), strict=True
                )
            ]
            return torch.stack([loss for loss, _ in done]).sum(), torch.cat([logits for _, logits in done]), micro_batch
        except torch.OutOfMemoryError as error:
            message = str(error).partition("\n")[0]
        # Outside the handler: the exception held the frames, and they the tensors, of what did not fit.
        forget()
        give_back()
        halved = (micro_batch or len(images)) // 2
        if halved < 2 or not may_split:
            raise MemoryError(
                f"a training step on {micro_batch or len(images)} images does not fit into the device's memory; take "
                f"a smaller --image-size, a smaller model or a larger --trial-gpus ({message})"
            )
        micro_batch = halved
