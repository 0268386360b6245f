from __future__ import annotations

import numpy as np
import pytest
import torch

from trainable.images import batches
from trainable.images.batches import draw_batches, fetch_batches, take_rows

CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8)
EVERYTHING = np.ones(50, dtype=bool)


def test_batches_hold_the_images_that_were_drawn_in_their_order() -> None:
    pixels = take_rows(PIXELS, EVERYTHING, CPU)
    drawn = draw_batches(50, 16, torch.Generator().manual_seed(0))
    fetched = list(fetch_batches(pixels, drawn, CPU))
    assert [len(batch) for batch in fetched] == [16, 16, 16, 2]
    for batch, rows in zip(fetched, drawn, strict=True):
        assert torch.equal(batch, pixels[rows])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("share", [0.5, 0.0], ids=["resident", "pinned"])
def test_a_gpu_gets_the_same_batches_from_its_memory_and_from_the_hosts(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device("cuda")
    monkeypatch.setattr(batches, "RESIDENT_SHARE", share)
    pixels = take_rows(PIXELS, EVERYTHING, device)
    assert (pixels.device.type, pixels.is_pinned()) == (("cuda", False) if share else ("cpu", True))
    drawn = draw_batches(50, 16, torch.Generator().manual_seed(0))
    for batch, rows in zip(fetch_batches(pixels, drawn, device), drawn, strict=True):
        assert batch.device.type == "cuda"
        assert torch.equal(batch.cpu(), torch.from_numpy(PIXELS)[rows])
