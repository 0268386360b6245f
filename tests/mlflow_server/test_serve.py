from __future__ import annotations

import http.server
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from mlflow_server.locks import try_lock, unlock
from mlflow_server.mlflow_process import ServerError, is_healthy
from mlflow_server.serve import ServerHandle, begin_server, ensure_server
from search.cli import main
from tests.processes import command_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
USER = """
import sys, time
from pathlib import Path
from mlflow_server.serve import ensure_server
server = ensure_server(Path(sys.argv[1]))
print(server.uri, server.started, flush=True)
time.sleep(600)
"""


def wait_until(is_so: Callable[[], bool], what: str, timeout_s: float = 300) -> None:
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.1)


def is_listening(uri: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(uri.rpartition(":")[2]))) == 0


def processes_of(folder: Path) -> list[str]:
    """Those that name a folder of plain letters on their command line."""
    return [line for line in command_lines() if str(folder) in line]


@contextmanager
def running(*command: str, cwd: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own, as in another terminal; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_second_user_finds_the_running_server(mlflow_server: ServerHandle) -> None:
    with ensure_server(mlflow_server.folder) as second:
        assert (second.uri, second.started) == (mlflow_server.uri, False)
    with running("-c", USER, str(mlflow_server.folder)) as other:
        assert read_line(other).split() == [mlflow_server.uri, "False"]
    assert is_listening(mlflow_server.uri)


def test_it_serves_this_machine_only_from_its_own_folder(mlflow_server: ServerHandle) -> None:
    facts = json.loads((mlflow_server.folder / "server.json").read_text())
    assert mlflow_server.uri == facts["uri"] == f"http://127.0.0.1:{facts['port']}"
    assert (mlflow_server.folder / "mlflow.db").exists()
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if " 0A " in line]
    assert f"0100007F:{facts['port']:04X}" in listening
    assert f"00000000:{facts['port']:04X}" not in listening


def test_a_server_of_another_machine_is_refused_by_name(mlflow_server: ServerHandle, tmp_path: Path) -> None:
    lock = try_lock(tmp_path / "running")  # as if another machine held it through a shared folder
    assert lock is not None
    facts = json.loads((mlflow_server.folder / "server.json").read_text())
    (tmp_path / "server.json").write_text(json.dumps(facts | {"host": "elsewhere"}))
    with pytest.raises(ServerError, match=r"runs on elsewhere.*MLFLOW_TRACKING_URI"):
        ensure_server(tmp_path)
    unlock(lock)


def test_one_starts_it_ctrl_c_spares_it_and_it_ends_after_its_last_user_was_killed(tmp_path: Path) -> None:
    home = tmp_path / "home of ü %20"
    folder = home / "mlflow"
    with running("-c", USER, str(folder)) as one, running("-c", USER, str(folder)) as other:
        lines = [read_line(one).split(), read_line(other).split()]
        assert sorted(started for _, started in lines) == ["False", "True"], "two starters start one server"
        assert lines[0][0] == lines[1][0]
        uri = lines[0][0]
        starter, user = (one, other) if lines[0][1] == "True" else (other, one)
        os.killpg(starter.pid, signal.SIGINT)  # what Ctrl-C in the starter's terminal does
        starter.wait()
        with ensure_server(folder) as server:
            assert (server.uri, server.started) == (uri, False)
            assert is_healthy(int(uri.rpartition(":")[2]))
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "mlflow.py").write_text("raise SystemExit('the wrong mlflow')")
        with running(str(ROOT / "mlflow_server" / "serve.py"), "--home", str(home), cwd=elsewhere) as ui:
            assert str(folder) in read_line(ui)
            assert uri in read_line(ui)
            ui.send_signal(signal.SIGINT)
            assert ui.wait(60) == 0
        user.kill()
        user.wait()
    wait_until(lambda: not is_listening(uri), "the server has ended")
    wait_until(lambda: not processes_of(tmp_path), "all its processes have ended")
    assert not (folder / "server.json").exists()


class Foreign(http.server.BaseHTTPRequestHandler):
    """A stranger on the port that server.json names, who even answers as an MLflow server does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_stale_server_json_is_fixed_and_a_dead_server_started_again(tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as foreign:
        thread = threading.Thread(target=foreign.serve_forever)
        thread.start()
        uri = f"http://127.0.0.1:{foreign.server_port}"
        facts = {"pid": 2**22 + 1, "address": "127.0.0.1", "port": foreign.server_port, "uri": uri}
        facts |= {"host": platform.node()}
        (tmp_path / "server.json").write_text(json.dumps(facts))
        pending = begin_server(tmp_path)
        with pending.wait() as server:
            assert server.started
            assert server.uri != uri
            supervisor = json.loads((tmp_path / "server.json").read_text())["pid"]
            os.kill(supervisor, signal.SIGKILL)
            wait_until(lambda: not is_listening(server.uri), "the server follows its supervisor")
            with ensure_server(tmp_path) as again:
                assert again.started
        foreign.shutdown()
        thread.join()


def test_a_server_that_cannot_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServerError, match=r"(?s)ended as it started.*address already in use.*server\.log"):
            ensure_server(tmp_path, port=taken.getsockname()[1])
    wait_until(lambda: not processes_of(tmp_path), "all its processes have ended")


@pytest.mark.timeout(200)
def test_sixty_four_clients_at_once_are_all_answered(mlflow_server: ServerHandle) -> None:
    client = MlflowClient(mlflow_server.uri)
    experiment = client.create_experiment("many clients")
    run_ids = [client.create_run(experiment).info.run_id for _ in range(64)]

    def log(run_id: str) -> None:
        for epoch in range(5):
            metrics = [Metric(name, epoch, 1000 * epoch, epoch) for name in "abcdefgh"]
            MlflowClient(mlflow_server.uri).log_batch(run_id, metrics=metrics, synchronous=True)

    with ThreadPoolExecutor(len(run_ids)) as clients:
        list(clients.map(log, run_ids))
    assert {len(client.get_metric_history(run_id, "h")) for run_id in run_ids} == {5}


def test_a_server_that_was_too_slow_is_let_go_of_once(tmp_path: Path) -> None:
    """Its error is what the user reads, not one of a lock that is given back twice."""
    pending = begin_server(tmp_path)
    with pytest.raises(ServerError, match="did not answer within 0 s"):
        pending.wait(0)
    pending.abandon()
    pending.abandon()


@pytest.mark.parametrize("command", [["ui"], ["server", "start"], ["server", "user", "ada"], ["server", "backup", "x"]])
def test_a_home_that_is_a_file_is_named_with_its_option(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    arguments = [sys.executable, "-m", "search.cli", *command, "--home", str(tmp_path / "home")]
    done = subprocess.run(arguments, cwd=ROOT, text=True, capture_output=True, timeout=600)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith(f"ctsearch: --home is {tmp_path / 'home'}; {tmp_path / 'home'} is a file")


@pytest.mark.parametrize("port", ["99999", "-1", "0", "1.5", "x", "٣٠٠٠", "9" * 5000])
@pytest.mark.parametrize("command", [["ui"], ["server", "start"]], ids=" ".join)
def test_what_is_no_port_is_refused_and_no_other_taken(
    command: list[str], port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--home", str(tmp_path), f"--port={port}"])
    assert "is no port; it must be a whole number from 1 to 65535" in capsys.readouterr().err
