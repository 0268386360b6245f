"""The processes that train one trial together: what each takes of a batch, and where all must agree"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for another within an epoch before it gives up."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """The processes of one trial as one of them sees them: this one is `rank` of `size`. Alone it sends nothing.

    Every rank holds the whole model, draws the whole epoch and takes its shard of each batch. Gradients are those of
    the mean over the whole batch, and batch normalisation takes its statistics from all of it: the step is that of one
    process, up to rounding and to what dropout draws. Every rank must call the same methods in the same order. They
    raise RuntimeError where another rank has gone.
    """

    rank: int = 0
    size: int = 1

    def shard(self, num: int) -> slice:
        """Which of `num` images are this rank's: nearly as many as any other's, in order of ranks."""
        return slice(num * self.rank // self.size, num * (self.rank + 1) // self.size)

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over the ranks."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace the gradients by their sums over the ranks, in one message."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view(gradient.shape))

    def distribute(self, model: nn.Module) -> nn.Module:
        """`model` for forward passes whose backward passes leave the mean of the gradients over the ranks.

        That is torch's DistributedDataParallel, which sends while the backward pass still computes. Make it anew where
        other layers train than before. Every rank must call it equally often, and each parameter must be used.
        """
        return nn.parallel.DistributedDataParallel(model)

    def all_gather(self, rows: Tensor, num: int) -> Tensor:
        """Every rank's rows (n, C) of its `shard(num)`, together (num, C), on every rank."""
        if self.size == 1:
            return rows
        whole = rows.new_zeros(num, *rows.shape[1:])
        whole[self.shard(num)] = rows
        dist.all_reduce(whole)
        return whole

    def broadcast(self, value: T) -> T:
        """What rank 0 has for `value`: tensors on the CPU and plain data."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def barrier(self) -> None:
        """Return when every rank has come here. Unlike a GPU's, this wait cannot end without an error when one died."""
        self.all_reduce(torch.zeros(1))

    def synchronize(self, model: nn.Module) -> nn.Module:
        """The model with rank 0's weights, and with batch normalisation over the whole batch: use what is returned."""
        if self.size == 1:
            return model
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, src=0)
        if next(model.parameters()).is_cuda:
            return nn.SyncBatchNorm.convert_sync_batchnorm(model)
        _convert_norms(model)
        return model


SINGLE = ProcessGroup()


def join_process_group(rank: int, size: int, meeting_file: Path, device: torch.device) -> ProcessGroup:
    """Meet the other ranks, processes of this machine that name the same new file; `leave_process_group` ends it.

    GPUs talk by NCCL, CPUs by gloo, and neither listens outside the machine.
    """
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    for library in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", loopback)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    meeting = f"file://{meeting_file}"
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=size, timeout=TIMEOUT)
    return ProcessGroup(rank=rank, size=size)


def abort_process_group() -> None:
    """From another thread: what waits for a rank that has gone shall not wait on a GPU for ever."""
    if torch.cuda.is_available() and (group := dist.group.WORLD) is not None:
        group.abort()


def leave_process_group() -> None:
    """End what `join_process_group` began, if it did."""
    if dist.is_initialized():
        dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    """A tensor's sum over the ranks; every rank's loss hangs on it, so its gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        summed = tensor.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


class CpuSyncBatchNorm(_BatchNorm):
    """Batch normalisation with the statistics of the whole batch: torch's own SyncBatchNorm wants GPUs."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Of any number of dimensions, as SyncBatchNorm is."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        values = input.float()
        others = [dim for dim in range(values.dim()) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(values.dim())]
        num_mine = values.new_tensor([values.numel() // values.shape[1]])
        sums = _Sum.apply(torch.cat([values.sum(others), num_mine]))
        num = sums[-1].detach()
        mean = sums[:-1] / num
        centred = values - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(others)) / num
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * num / (num - 1).clamp(min=1))
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def _convert_norms(model: nn.Module) -> None:
    """In place, with the same parameters and under the same names: state dicts and optimisers fit as before."""
    for name, child in model.named_children():
        if isinstance(child, _BatchNorm):
            norm = CpuSyncBatchNorm(child.num_features)
            norm.__dict__.update(child.__dict__)
            setattr(model, name, norm)
        else:
            _convert_norms(child)
