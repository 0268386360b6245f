"""Which slices of a set may show the same: those of like spectra, which no shift, mirror or inversion changes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainable.images.registration import Grey, filter_band, has_contrast, make_window, turn

MIN_LIKENESS = 0.5
NUM_SAME_POSE, NUM_OTHER_POSE = 12, 4  # candidates kept for a slice: neighbours of its scan crowd the first

_SIDE, _RADIUS = 32, 9
_POSES = (0, 1, 4, 5)  # a spectrum is the same after half a turn
_VIEWS = ((1.0, 0.0), (1.06, 0.0), (1.12, 0.0), (1.0, 4.0))  # enlargement, degrees
_BLOCK = 1024

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def find_candidates(images: Grey) -> Pairs:
    """Pairs (first, second, pose) of the slices uint8 (N, 64, 64) whose spectra are most alike, int64 (P,) each.

    The amplitudes of the Fourier transform under a window do not change with a shift, an inversion or half a turn
    (as in Reddy and Chatterji 1996), and their square root keeps a few strong edges from deciding. `second` is
    tried in four poses, a little enlarged and a little turned. Of each slice the best dozen are kept: P is at most
    24 N. Time grows with N squared, memory with N.
    """
    band = filter_band(images, 2.0, 8.0, _SIDE)
    whole = _describe(band)
    whole[~torch.from_numpy(has_contrast(images))] = 0
    views = {pose: [_describe(_look(turn(band, pose), *view)) for view in _VIEWS] for pose in _POSES}
    found = []
    for start in range(0, len(whole), _BLOCK):
        rows = whole[start : start + _BLOCK]
        for pose, variants in views.items():
            likeness = rows @ variants[0].T
            for variant in variants[1:]:
                torch.maximum(likeness, rows @ variant.T, out=likeness)
            likeness[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = 0
            wanted = NUM_OTHER_POSE if pose else NUM_SAME_POSE
            best, column = likeness.topk(min(wanted, len(whole)), dim=1)
            row, rank = (best >= MIN_LIKENESS).nonzero(as_tuple=True)
            found.append(torch.stack([row + start, column[row, rank], torch.full_like(row, pose)]))
    first, second, pose = torch.cat(found, dim=1).numpy()
    mutual = (first > second) & ((pose == 0) | (pose >= 4))  # these poses are their own inverse: half of the work
    first, second = np.where(mutual, second, first), np.where(mutual, first, second)
    first, second, pose = np.unique(np.stack([first, second, pose]), axis=1)
    return first, second, pose


def _look(band: Tensor, enlargement: float, degrees: float) -> Tensor:
    if enlargement == 1 and not degrees:
        return band
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle) / enlargement, np.sin(angle) / enlargement
    view = torch.tensor([[cos, -sin, 0], [sin, cos, 0]], dtype=torch.float32).expand(len(band), 2, 3)
    grid = functional.affine_grid(view, [len(band), 1, _SIDE, _SIDE], align_corners=False)
    return functional.grid_sample(band[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def _describe(band: Tensor) -> Tensor:
    """Unit vectors (N, D): square roots of amplitudes of one half of the plane, without what all spectra share."""
    shaped = (band - band.mean((1, 2), keepdim=True)) * make_window(_SIDE, 0.3)
    spectrum = torch.fft.fftshift(torch.fft.fft2(shaped), dim=(-2, -1)).abs().sqrt()
    middle = _SIDE // 2
    half = spectrum[:, middle - _RADIUS : middle + _RADIUS + 1, middle : middle + _RADIUS + 1]
    down, across = np.mgrid[-_RADIUS : _RADIUS + 1, 0 : _RADIUS + 1]
    wanted = (np.hypot(down, across) <= _RADIUS + 0.5) & ((across > 0) | (down > 0))
    vectors = half[:, torch.from_numpy(wanted)]
    vectors = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6)
    vectors = vectors - vectors.mean(0)
    return vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6)
