"""clusters/slurm.sh starts a closed Ray, and hands its options to the search."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


STAND_INS = {
    "srun": 'for word; do shift; [ "$word" = ray ] && exec ray "$@"; done',
    "scontrol": "hostname",
}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job of one node; srun and scontrol are played by scripts, Ray and the search are real."""
    for name, body in STAND_INS.items():
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/usr/bin/env bash\n{body}\n")
        script.chmod(0o755)
    folder = tmp_path / "checkout"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for room in ("search", "trainable", "mlflow_server", "pyproject.toml"):
        (folder / room).symlink_to(ROOT / room)
    scripts = Path(sys.executable).parent
    (folder / ".venv/bin/activate").write_text(f'export PATH="{tmp_path / "bin"}:{scripts}:$PATH"\n')
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "CTSEARCH_"))}
    return kept | {
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_GPUS_ON_NODE": "0",
        "CTSEARCH_HOME": str(tmp_path / "home"),
        "USER": "tests",
    }


def test_the_slurm_script_starts_a_closed_ray_and_hands_the_options_to_the_search(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    script = ROOT / "clusters/slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    done = subprocess.run(
        ["bash", script, "--preflight", "--bad-nodes", "refuse"],
        env=slurm,
        text=True,
        capture_output=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 node, 1 CPU, 0 GPU" in done.stdout
    assert not list((tmp_path / "home").glob("*.token"))
