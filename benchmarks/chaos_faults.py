"""The faults that are caused, in the order of a search's life; each returns when it is over, or the driver has ended.

A fault that needs what is missing here (root for a full disk) is not among `list_faults`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.chaos_disks import empty_storage, fill_home, fill_storage, lock_storage, lose_storage
from benchmarks.chaos_search import ROOT, Chaos, read_json

START_S = 30.0
"""A driver is killed while starting within so many seconds: about what it takes to the first epoch."""
CLOCK = """
import time
real_s, real_ns = time.time, time.time_ns
def offset_s():
    with open(FILE) as file:
        return int(file.read() or 0)
time.time = lambda: real_s() + offset_s()
time.time_ns = lambda: real_ns() + offset_s() * 10**9
"""
"""What Python reads as it starts, so that its clock is one that can be set. (Ray does not start under libfaketime.)"""
ROOM_BYTES, BALLOON_BYTES = 2 << 30, 5 << 30
"""What a search may use more before it is ended for it, and what takes more than that."""


def end_by(number: int) -> Callable[[Chaos], None]:
    return lambda chaos: chaos.end(number)


def kill_worker(chaos: Chaos) -> None:
    chaos.kill_below("Trainable", "ray::Trial")


def kill_ray(*words: str) -> Callable[[Chaos], None]:
    """Kill a part of Ray: the driver ends by itself, with a line that names what died."""

    def cause(chaos: Chaos) -> None:
        if chaos.kill_below(*words):
            chaos.wait_for_end()

    return cause


def fill_memory(chaos: Chaos) -> None:
    """A host that has no memory left: Ray ends a worker, which is what the kernel would do a little later.

    The driver goes on with a Ray whose threshold lies a little above what this machine uses now, and that is passed.
    """
    memory = psutil.virtual_memory()
    threshold = (memory.total - memory.available + ROOM_BYTES) / memory.total
    chaos.end(signal.SIGTERM)
    chaos.environ = {"RAY_memory_usage_threshold": f"{threshold:.3f}", "RAY_memory_monitor_refresh_ms": "250"}
    chaos.start_again()
    before = {process.pid for process in chaos.workers()}
    fill = f"held = bytearray({BALLOON_BYTES}); held[::4096] = b'.' * len(held[::4096]); input()"
    balloon = subprocess.Popen([sys.executable, "-c", fill], stdin=subprocess.PIPE)
    try:
        chaos.wait(lambda: not before <= {process.pid for process in chaos.workers()}, patience_s=120)
    finally:
        balloon.kill()
        balloon.wait()
        chaos.environ = {}


def stop_mlflow(chaos: Chaos) -> None:
    stopped = chaos.mlflow().children(recursive=True)
    for process in stopped:
        process.suspend()
    chaos.wait_for_epochs(2)
    for process in stopped:
        process.resume()


def kill_mlflow(chaos: Chaos) -> None:
    for process in chaos.mlflow().children(recursive=True):
        process.kill()


def kill_supervisor(chaos: Chaos) -> None:
    """Nobody is left who would start the server again, but for the search itself; its port is another's by then."""
    file = chaos.home / "mlflow" / "server.json"
    supervisor, port = chaos.mlflow(), read_json(file)["port"]
    supervisor.kill()
    squatter = subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        chaos.wait(lambda: read_json(file).get("port") not in (None, port))
        chaos.wait_for_epochs(1)
    finally:
        squatter.kill()
        squatter.wait()


def damage_database(chaos: Chaos) -> None:
    """Its file is no database any more: the driver is told, and the user does what the line says."""
    file = chaos.home / "mlflow" / "mlflow.db"
    with file.open("r+b") as database:
        database.write(b"\xff" * 4096)
    chaos.wait_for_epochs(2)
    if chaos.driver.poll() is None:
        chaos.end(signal.SIGTERM)
    chaos.start_again()
    if chaos.driver.poll() is not None:
        told = chaos.log_file.read_text().rpartition("\n---")[2]
        if f"mv {file}" not in told.replace("'", ""):
            chaos.lost.append(f"{chaos.name}: nothing is said of the damaged {file}")
        if (file.parent / "server.json").exists():
            for process in (chaos.mlflow(), *chaos.mlflow().children(recursive=True)):
                process.kill()
        file.rename(file.with_name("mlflow.db.damaged"))
        for left in file.parent.glob("mlflow.db-*"):
            left.unlink()


def damage(*patterns: str, below: Callable[[Chaos], Path]) -> Callable[[Chaos], None]:
    """Kill the driver, and damage one file of a kind: half of it is gone, or a byte is another."""

    def cause(chaos: Chaos) -> None:
        chaos.kill()
        pattern = chaos.random.choice(patterns)
        files = sorted(path for path in below(chaos).rglob(pattern) if path.is_file() and path.stat().st_size > 8)
        if not files:
            return
        file = chaos.random.choice(files)
        content = bytearray(file.read_bytes())
        if chaos.random.random() < 0.5:
            del content[len(content) // 2 :]
        else:
            content[chaos.random.randrange(len(content))] ^= 0xFF
        file.write_bytes(content)

    return cause


def tear_journal(chaos: Chaos) -> None:
    chaos.kill()
    with (chaos.folder / "optuna.journal").open("ab") as journal:
        journal.write(b'{"op_code": 6, "worker_id": "torn')


def set_clock_back(chaos: Chaos) -> None:
    """By an hour, for the Python of driver, workers and Ray, amid the search."""
    site, clock = chaos.home / "site", chaos.home / "clock"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(CLOCK.replace("FILE", repr(str(clock))))
    clock.write_text("0")
    chaos.end(signal.SIGTERM)
    chaos.environ = {"PYTHONPATH": str(site)}
    chaos.start_again()
    clock.write_text("-3600")
    chaos.wait_for_epochs(3)
    chaos.environ = {}
    chaos.end(signal.SIGTERM)


def search_beside(chaos: Chaos) -> None:
    """Another search in the same home, at the same time."""
    name = f"beside-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "search.cli", "search", "--home", str(chaos.home), "--name", name]
    command += ["--arch", "small_cnn", "--image-size", "64", "--trial-cpus", "1", "--num-trials", "1"]
    done = subprocess.run([*command, "--max-epochs", "1"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        chaos.lost.append(f"{chaos.name}: a second search failed: {(done.stdout + done.stderr)[-400:]}")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is done, when (`starting`, `running` or `ending`), and whether this machine allows it."""

    cause: Callable[[Chaos], None]
    when: str = "running"
    is_possible: Callable[[], bool] = lambda: True


def is_root() -> bool:
    return os.getuid() == 0 and sys.platform == "linux"


def of_search(chaos: Chaos) -> Path:
    return chaos.folder


FAULTS: Mapping[str, Fault] = {
    "driver killed while starting": Fault(cause=Chaos.kill, when="starting"),
    "SIGINT while starting": Fault(cause=end_by(signal.SIGINT), when="starting"),
    "SIGTERM while starting": Fault(cause=end_by(signal.SIGTERM), when="starting"),
    "driver killed": Fault(cause=Chaos.kill),
    "terminal closed": Fault(cause=end_by(signal.SIGHUP)),
    "SIGTERM": Fault(cause=end_by(signal.SIGTERM)),
    "worker killed": Fault(cause=kill_worker),
    "host out of memory": Fault(cause=fill_memory),
    "Ray's raylet killed": Fault(cause=kill_ray("raylet/raylet")),
    "Ray's head killed": Fault(cause=kill_ray("gcs_server")),
    "Ray's agent killed": Fault(cause=kill_ray("DashboardAgent", "RuntimeEnvAgent")),
    "MLflow stopped": Fault(cause=stop_mlflow),
    "MLflow killed": Fault(cause=kill_mlflow),
    "MLflow gone, its port taken": Fault(cause=kill_supervisor),
    "mlflow.db damaged": Fault(cause=damage_database),
    "journal torn": Fault(cause=tear_journal),
    "record damaged": Fault(cause=damage("search.json", "spent.json", "splits.csv", below=of_search)),
    "checkpoint damaged": Fault(cause=damage("best*", "newest*", below=lambda chaos: chaos.trials_folder)),
    "cache damaged": Fault(cause=damage("*.npy", below=lambda chaos: chaos.home / "cache")),
    "storage gone": Fault(cause=lose_storage),
    "storage not mounted": Fault(cause=empty_storage),
    "storage read-only": Fault(cause=lock_storage, is_possible=is_root),
    "storage full": Fault(cause=fill_storage, is_possible=is_root),
    "disk of the searches full": Fault(cause=fill_home, is_possible=is_root),
    "clock set back": Fault(cause=set_clock_back),
    "two searches in one home": Fault(cause=search_beside),
    "SIGINT at the end": Fault(cause=end_by(signal.SIGINT), when="ending"),
    "SIGTERM at the end": Fault(cause=end_by(signal.SIGTERM), when="ending"),
    "driver killed at the end": Fault(cause=Chaos.kill, when="ending"),
}
KILLS = ("driver killed while starting", "driver killed", "driver killed at the end")


def list_faults() -> list[str]:
    """Those that can be caused on this machine, in the order of a search's life."""
    return [name for name, fault in FAULTS.items() if fault.is_possible()]


def cause_fault(chaos: Chaos, name: str) -> bool:
    """Cause a fault at a random moment of its part of the search, and let the search go on; False where it has ended by
    itself before."""
    fault = FAULTS[name]
    if chaos.phase == "ended":
        return False
    if fault.when == "starting":
        wait_until_starting(chaos)
    elif fault.when == "ending":
        if not chaos.wait(lambda: chaos.phase == "concluding"):
            return False
        time.sleep(chaos.random.uniform(0.0, 8.0))
    else:
        chaos.start_again()
        if not chaos.wait_for_epochs(number := chaos.random.randint(1, 4)) and chaos.phase != "ended":
            chaos.start_again()  # it has ended a while after the fault before
            chaos.wait_for_epochs(number)
        if chaos.phase != "searching":
            return False
    if chaos.driver.poll() is not None:
        return False
    began_s = time.monotonic()
    fault.cause(chaos)
    chaos.caused[name] += 1
    chaos.start_again()
    chaos.seconds[name].append(time.monotonic() - began_s)
    return True


def wait_until_starting(chaos: Chaos) -> None:
    """Until a random moment of a start, before its first trial runs: from then on Ctrl-C would end the search."""
    wait_s = chaos.random.uniform(0.5, START_S)
    if chaos.driver.poll() is None and chaos.phase == "preparing":  # its first start
        time.sleep(wait_s)
    while chaos.phase != "ended" and (chaos.driver.poll() is not None or not chaos.is_starting):
        if chaos.driver.poll() is None:
            chaos.end(signal.SIGTERM)
        chaos.driver = chaos.start()
        time.sleep(wait_s := wait_s / 1.5)
