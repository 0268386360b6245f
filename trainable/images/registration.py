"""Lays one slice over another, whatever turn, mirror, inversion, shift or crop is between them, and compares both."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

THUMBNAIL_SIZE = 64  # as in near_duplicates.py
NUM_POSES = 8  # the symmetries of a square; those from 4 on are mirrored

_COARSE, _FINE = 32, 64  # sides in pixels at which slices are registered and compared
_MAX_SHIFT = 6  # pixels of 32
_MAX_STRETCH = 1.3
_MIN_CONTRAST = 1.0  # grey levels
_MIN_ROUGH, _MIN_FINE = 0.9, 0.6  # before the fine registration; copies reach 0.94 and 0.83
_CHUNK = 512

Grey = NDArray[np.uint8]


def blur_matrix(sigma: float, num_out: int) -> Tensor:
    """Gaussian smoothing of 64 samples to `num_out`, as a matrix float32 (num_out, 64); `sigma` in pixels of 64."""
    centres = (np.arange(num_out) + 0.5) * THUMBNAIL_SIZE / num_out - 0.5
    weights = np.exp(-0.5 * ((centres[:, None] - np.arange(THUMBNAIL_SIZE)) / sigma) ** 2)
    return torch.from_numpy((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def filter_band(images: Grey, fine: float, coarse: float, side: int) -> Tensor:
    """The scales between two Gaussians (Marr and Hildreth 1980) of uint8 (N, 64, 64), float32 (N, side, side)."""
    grey = torch.from_numpy(images).float()
    narrow, wide = blur_matrix(fine, side), blur_matrix(coarse, side)
    return narrow @ grey @ narrow.T - wide @ grey @ wide.T


def make_window(side: int, inner: float, outer: float = 1.0) -> Tensor:
    """Weights (side, side) that are 1 within the share `inner` of a side and fall to 0 at `outer` and in the corners:
    what a shift or a turn fills in lies there."""
    distance = np.abs((np.arange(side) + 0.5) * 2 / side - 1)
    edge = 0.5 - 0.5 * np.cos(np.pi * np.clip((outer - distance) / (outer - inner), 0, 1))
    corner = np.clip((1.2 - np.hypot.outer(distance, distance)) / 0.3, 0, 1)
    return torch.from_numpy((np.outer(edge, edge) * corner).astype(np.float32))


def turn(images: Tensor, pose: int) -> Tensor:
    """(..., S, S) in one of the eight poses of a square."""
    turned = torch.rot90(images, pose % 4, dims=(-2, -1))
    return turned.flip(-1) if pose >= 4 else turned


def has_contrast(images: Grey) -> NDArray[np.bool_]:
    """Which of uint8 (N, 64, 64) show anything at the scales that are compared, bool (N,)."""
    return filter_band(images, 1.0, 4.0, _COARSE).flatten(1).std(1).numpy() > _MIN_CONTRAST


class Registration:
    """Compares pairs of slices of one set, uint8 (N, 64, 64), whatever lies between the two of a pair.

    A pair's pose, sign and shift come from their cross-correlation; an affine map from inverse compositional
    Lucas-Kanade (Baker and Matthews, IJCV 2004), first at 32 and then at 64 pixels.
    """

    def __init__(self, images: Grey) -> None:
        self._coarse = filter_band(images, 2.0, 8.0, _COARSE)
        self._fine = filter_band(images, 0.6, 2.0, _FINE)
        self._coarse_window = make_window(_COARSE, 0.5)
        self._fine_window = make_window(_FINE, 0.6, 0.9)

    def compare(self, first: NDArray[np.int64], second: NDArray[np.int64], poses: NDArray[np.int64]) -> Tensor:
        """The correlation of each pair (P,) once `second`, seen in its pose or that turned by 180 degrees, lies on
        `first`: float32 in [0, 1]. 0 where no map of moderate shift and stretch was found."""
        scores = torch.zeros(len(first))
        for pose in range(NUM_POSES):
            chosen = np.flatnonzero(poses == pose)
            for start in range(0, len(chosen), _CHUNK):
                part = chosen[start : start + _CHUNK]
                scores[part] = self._compare(first[part], second[part], pose)
        return scores

    def _compare(self, first: NDArray[np.int64], second: NDArray[np.int64], pose: int) -> Tensor:
        scores = torch.zeros(len(first))
        still, moving = self._coarse[first], turn(self._coarse[second], pose)
        peak, shift = self._find_shift(still, moving)
        half_peak, half_shift = self._find_shift(still, turn(moving, 2))
        use_half = half_peak.abs() > peak.abs()
        sign = torch.where(use_half, half_peak, peak).sign()
        maps = torch.eye(2, 3).repeat(len(first), 1, 1)
        maps[:, :, 2] = torch.where(use_half[:, None], half_shift, shift)
        moving = sign[:, None, None] * torch.where(use_half[:, None, None], turn(moving, 2), moving)
        maps, rough = _register(still, moving, maps, self._coarse_window, num_steps=8)
        left = (rough > _MIN_ROUGH).nonzero()[:, 0]
        if not len(left):
            return scores
        at, use_half, sign = left.numpy(), use_half[left, None, None], sign[left, None, None]
        moving = turn(self._fine[second[at]], pose)
        moving = sign * torch.where(use_half, turn(moving, 2), moving)
        still, window, maps = self._fine[first[at]], self._fine_window, maps[left]
        seen, inside = _warp(moving, maps)
        close = (_correlate(still, seen, window * inside) > _MIN_FINE).nonzero()[:, 0]
        if len(close):
            _, fine = _register(still[close], moving[close], maps[close], window, num_steps=3)
            scores[left[close]] = fine.clamp(0, 1)
        return scores

    def _find_shift(self, still: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        """The signed peak (P,) of the cross-correlation, and where it is, in half sides (P, 2: x, y)."""
        window = self._coarse_window
        product = torch.fft.rfft2(still * window).conj() * torch.fft.rfft2(moving * window)
        surface = torch.fft.irfft2(product, s=(_COARSE, _COARSE))
        reach = 2 * _MAX_SHIFT + 1
        near = torch.roll(surface, (_MAX_SHIFT, _MAX_SHIFT), dims=(-2, -1))[:, :reach, :reach].flatten(1)
        at = near.abs().argmax(1)
        shift = torch.stack([at % reach, at // reach], dim=1) - _MAX_SHIFT
        return near.gather(1, at[:, None])[:, 0], shift * (2 / _COARSE)


def _register(still: Tensor, moving: Tensor, maps: Tensor, window: Tensor, num_steps: int) -> tuple[Tensor, Tensor]:
    """The affine maps (P, 2, 3), in half sides, under which `moving` looks most like `still`, and its correlation (P,)
    there: 0 where the map is not moderate."""
    side = still.shape[-1]
    still = _standardise(still, window)
    across, down = _gradients(still)
    axis = (torch.arange(side) + 0.5) * (2 / side) - 1
    basis = torch.stack([axis.repeat(side), axis.repeat_interleave(side), torch.ones(side * side)], dim=1)
    products = (basis[:, :, None] * basis[:, None, :]).flatten(1) * window.flatten()[:, None]
    blocks = [(one * two).flatten(1) @ products for one, two in ((across, across), (across, down), (down, down))]
    xx, xy, yy = (block.unflatten(1, (3, 3)) for block in blocks)
    hessian = torch.cat([torch.cat([xx, xy], dim=2), torch.cat([xy, yy], dim=2)], dim=1)
    hessian = hessian + 1e-3 * torch.diag_embed(hessian.diagonal(dim1=1, dim2=2) + 1e-3)
    inverse_hessian = torch.linalg.inv(hessian)
    identity = torch.eye(3)
    whole = torch.cat([maps, identity[2:].expand(len(still), 1, 3)], dim=1)
    for _ in range(num_steps):
        seen, inside = _warp(moving, whole[:, :2])
        error = (_standardise(seen, window) - still) * (window * inside)
        gradient = torch.cat([(across * error).flatten(1) @ basis, (down * error).flatten(1) @ basis], dim=1)
        step = (inverse_hessian @ gradient[:, :, None])[:, :, 0].clamp(-0.1, 0.1)
        update = identity.repeat(len(still), 1, 1)
        update[:, :2] += step.unflatten(1, (2, 3))
        whole = torch.where(_is_moderate(whole[:, :2])[:, None, None], whole @ torch.linalg.inv(update), whole)
    maps = whole[:, :2]
    seen, inside = _warp(moving, maps)
    return maps, torch.where(_is_moderate(maps), _correlate(still, seen, window * inside), 0.0)


def _gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences across and down, per half side."""
    padded = functional.pad(images[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    scale = images.shape[-1] / 4
    across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * scale
    return across, (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * scale


def _warp(images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """The slices (P, S, S) through their maps, and 1 where a pixel's place lies well inside the other, else 0."""
    side = images.shape[-1]
    grid = functional.affine_grid(maps, [len(maps), 1, side, side], align_corners=False)
    seen = functional.grid_sample(images[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    return seen, (grid.abs().amax(-1) < 0.95).float()


def _standardise(images: Tensor, window: Tensor) -> Tensor:
    total = window.sum((-2, -1))
    mean = (images * window).sum((-2, -1)) / total
    centred = images - mean[..., None, None]
    spread = ((centred**2 * window).sum((-2, -1)) / total).sqrt().clamp(min=_MIN_CONTRAST / 4)
    return centred / spread[..., None, None]


def _correlate(one: Tensor, two: Tensor, window: Tensor) -> Tensor:
    """The weighted correlation of each pair (P,)."""
    total = window.sum((1, 2)).clamp(min=1e-6)
    one = one - ((one * window).sum((1, 2)) / total)[:, None, None]
    two = two - ((two * window).sum((1, 2)) / total)[:, None, None]
    norms = (one**2 * window).sum((1, 2)) * (two**2 * window).sum((1, 2))
    return (one * two * window).sum((1, 2)) / norms.sqrt().clamp(min=1e-6)


def _is_moderate(maps: Tensor) -> Tensor:
    """Which maps (P,) stretch and shift no more than a crop, a small turn and a shift can together."""
    turned, shift = maps[:, :, :2], maps[:, :, 2].abs().amax(1)
    a, b, c, d = turned[:, 0, 0], turned[:, 0, 1], turned[:, 1, 0], turned[:, 1, 1]
    mean, half = ((a + d) ** 2 + (c - b) ** 2).sqrt() / 2, ((a - d) ** 2 + (b + c) ** 2).sqrt() / 2
    largest, smallest = mean + half, (mean - half).abs()
    limit = math.log(_MAX_STRETCH)
    return (largest.log() < limit) & (smallest.clamp(min=1e-3).log() > -limit) & (shift < 0.5)
