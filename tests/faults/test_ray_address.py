"""Ray's address and Ray's folder: the right reason, or a way round it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from search.engine.cluster import connect
from search.engine.ray_address import check_address, choose_address, choose_folder, find_folder_fault

ROOT = Path(__file__).resolve().parents[2]


def test_an_empty_or_local_address_means_a_ray_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", " ", "local"):
        monkeypatch.setenv("RAY_ADDRESS", value)
        assert choose_address(None) is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert choose_address(None) == "10.0.0.1:6379"
    assert choose_address("10.0.0.2:6379") == "10.0.0.2:6379"


def test_auto_without_a_cluster_says_so(tmp_path: Path) -> None:
    code = "from search.engine.ray_address import check_address; check_address('auto')"
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    hidden = "import ray, psutil; psutil.process_iter = lambda *_, **__: iter(())\n"  # other Rays of this machine
    done = subprocess.run(
        [sys.executable, "-c", hidden + code],
        cwd=ROOT,
        env=bare | {"TMPDIR": str(tmp_path), "RAY_ADDRESS": "auto"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ConnectionError: the Ray address is 'auto' and no Ray cluster runs on this machine" in done.stderr


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_dashboards_address_is_told_from_the_clusters() -> None:
    with HTTPServer(("127.0.0.1", 0), Page) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        with pytest.raises(ConnectionError, match="dashboard"):
            check_address(f"127.0.0.1:{page.server_port}")
        page.shutdown()
    with pytest.raises(ConnectionError, match="dashboard"):
        check_address("http://10.0.0.1:8265")


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:port", "head:99999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConnectionError, match="it must be HOST:PORT"):
        check_address(address)


def test_a_long_tmpdir_gives_way_to_a_short_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp/" + "x" * 70)
    folder = choose_folder()
    assert folder is not None and len(folder) < 30
    assert Path(folder).parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_ray_starts_under_a_long_tmpdir(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    code = """
import ray
from search.engine.cluster import connect
print(connect(None, trial_cpus=1).description)
assert ray.get(ray.remote(num_cpus=1)(lambda: 7).remote()) == 7
"""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=bare | {"TMPDIR": str(long)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "1 node" in done.stdout, done.stderr


AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from search.engine.ray_address import choose_folder, find_folder_fault
if os.getuid() == 0:  # to whom every folder is open
    os.setuid(65534)
print(find_folder_fault(Path(sys.argv[1])))
print(choose_folder())
"""


def test_a_folder_that_cannot_be_written_to_gives_way_to_ones_own(tmp_path: Path) -> None:
    theirs = Path("/tmp") / f"theirs-{os.getpid()}"
    (theirs / "ray").mkdir(parents=True)
    theirs.chmod(0o777)
    (theirs / "ray").chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER, str(theirs)],
            cwd=ROOT,
            env=os.environ | {"RAY_TMPDIR": str(theirs)},
            capture_output=True,
            text=True,
            check=False,
        )
        fault, folder = done.stdout.split("\n")[:2]
        uid = os.getuid() or 65534
        assert ("belongs to user 0" if uid == 65534 else "cannot be written to") in fault
        assert folder == f"/tmp/ray-{uid}/ray", done.stderr
    finally:
        (theirs / "ray").rmdir()
        theirs.rmdir()
        shutil.rmtree("/tmp/ray-65534", ignore_errors=True)


def test_where_no_folder_can_be_used_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "x" * 70)
    monkeypatch.setattr("search.engine.ray_address.MAX_SOCKET_PATH_BYTES", 20)
    with pytest.raises(ValueError, match=r"RAY_TMPDIR is /tmp/x+; its path is too long for a socket"):
        choose_folder()
    assert find_folder_fault(Path("/tmp")) != ""


@pytest.mark.parametrize(
    ("error", "output"),
    [
        (
            Exception("The current node timed out during startup.\nThis could happen because"),
            "timed out during startup",
        ),
        (RuntimeError(""), "RuntimeError"),
        (ConnectionError("ray is away"), "ray is away"),
    ],
)
def test_whatever_ray_raises_as_it_starts_is_one_line(
    error: Exception, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: object) -> None:
        raise error

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(ConnectionError, match=f"Ray does not start on this machine: .*{output}.*busy") as caught:
        connect(None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["10.0.0..1:6379", "a" * 300 + ":1", "host:" + "9" * 5000])
def test_a_name_that_can_be_no_hosts_is_named(address: str) -> None:
    with pytest.raises(ConnectionError, match=re.escape(repr(address))):
        check_address(address)
