"""What tests of checkpoints share."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import torch


def make_state(k: float) -> dict[str, Any]:
    return {"model": {"w": torch.full((64, 64), float(k))}, "groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]}


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def records(kind: str) -> tuple[str, str]:
    return f"{kind}.good.json", f"{kind}.json"


def state_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
