"""What is shipped for a team's server: nginx's configuration, the systemd unit and the containers."""

from __future__ import annotations

import re
import shlex
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from mlflow_server.cli import build_parser
from tests import needs
from tests.mlflow_server.conftest import ROOT, TeamServer, free_port
from tests.mlflow_server.test_team import EXPERIMENT

SHIPPED = ROOT / "mlflow_server"
NAME = "mlflow.example.org"


@pytest.fixture
def proxy(team: TeamServer, tmp_path: Path) -> Iterator[tuple[int, int, Path]]:
    """A real nginx with the shipped configuration: the ports of https and http, and its certificate."""
    nginx, openssl = needs.program("nginx"), needs.program("openssl")
    certificate, key = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    subject = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},DNS:localhost"]
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    https, http = free_port(), free_port()
    shipped = (SHIPPED / "nginx.conf").read_text()
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{https} ssl"),
        ("listen 80", f"listen 127.0.0.1:{http}"),
        (f"server_name {NAME}", f"server_name {NAME} localhost"),
        (f"/etc/letsencrypt/live/{NAME}/", f"{tmp_path}/"),
        ("http://127.0.0.1:5000", team.uri),
    ):
        assert old in shipped
        shipped = shipped.replace(old, new)
    (tmp_path / "server.conf").write_text(shipped)
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\n"
        f"http {{ access_log off; {temporary} include {tmp_path}/server.conf; }}\n"
    )
    command = [nginx, "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log"), "-p", str(tmp_path)]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0 and "syntax is ok" in checked.stderr, checked.stderr
    process = subprocess.Popen(command)
    try:
        end = time.monotonic() + 300
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert process.poll() is None and time.monotonic() < end, (tmp_path / "error.log").read_text()
            time.sleep(0.05)
        yield https, http, certificate
    finally:
        process.terminate()
        process.wait(20)


def test_through_nginx_clients_log_in_by_tls_and_large_files_pass(
    team: TeamServer, proxy: tuple[int, int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    https, http, certificate = proxy
    for name, value in team.login("admin", team.admin_password).items():
        monkeypatch.setenv(name, value)
    uri = f"https://localhost:{https}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    client = MlflowClient(uri)
    run_id = client.create_run("0", run_name="through nginx").info.run_id
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(range(256)) * 12_000)  # 3 MB: above nginx's usual limit of 1 MB
    client.log_artifact(run_id, str(large), "models")
    (tmp_path / "back").mkdir()
    back = client.download_artifacts(run_id, "models/large.bin", str(tmp_path / "back"))
    assert Path(back).read_bytes() == large.read_bytes()

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *arguments: Any) -> None:
            return None

    def status(url: str, host: str) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=str(certificate))
        opener = urllib.request.build_opener(Stay, urllib.request.HTTPSHandler(context=context))
        request = urllib.request.Request(url, headers={"Host": host})
        try:
            with opener.open(request, timeout=30) as answer:
                return answer.status, answer.headers.get("Location", "")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers.get("Location", "")

    assert status(f"http://127.0.0.1:{http}/x?y=1", NAME) == (301, f"https://{NAME}/x?y=1")
    assert status(uri + EXPERIMENT, NAME)[0] == 401, "the name is known, a login is wanted"
    assert status(uri + EXPERIMENT, "evil.example.com")[0] == 403, "MLflow sees the name that the user called"


def test_systemd_takes_the_unit_and_its_command_is_one_of_ours(tmp_path: Path) -> None:
    text = (SHIPPED / "ctsearch-mlflow.service").read_text()
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    words = shlex.split(command)
    assert words[:2] == ["/opt/ctsearch/.venv/bin/ctsearch", "server"]
    given = build_parser().parse_args(words[2:])
    assert (given.command, given.auth, given.host, given.allowed_hosts) == ("start", True, None, NAME)
    unit = tmp_path / "ctsearch-mlflow.service"
    here = text.replace(words[0], str(Path(sys.executable).with_name("ctsearch"))).replace("User=ctsearch", "User=root")
    unit.write_text(here)
    analyze = needs.program("systemd-analyze")
    done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, complaints) == (0, [])
    unit.write_text(here.replace("ProtectSystem=strict", "ProtectSystem=nonsense"))
    done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert "Failed to parse protect system value" in done.stderr, "systemd would have said what is wrong"


def test_the_containers_are_described_as_compose_wants_it_and_show_the_proxy_alone(tmp_path: Path) -> None:
    compose = needs.program("docker-compose")
    (tmp_path / "mlflow.env").write_text("SERVER_NAME=team.example.org\nPGPASSWORD=made-up\n")
    (tmp_path / "mlflow_server").mkdir()
    text = (SHIPPED / "compose.yaml").read_text()
    file = tmp_path / "mlflow_server" / "compose.yaml"
    file.write_text(text.replace("env_file: /etc/ctsearch/", f"env_file: {tmp_path}/"))
    command = [compose, "--env-file", str(tmp_path / "mlflow.env"), "-f", str(file), "config"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert {name for name, service in services.items() if "ports" in service} == {"mlflow"}
    assert services["proxy"]["network_mode"] == "service:mlflow"
    given = build_parser().parse_args(services["mlflow"]["command"])
    assert (given.command, given.auth, given.host, given.allowed_hosts) == ("start", True, None, "team.example.org")
    assert services["mlflow"]["environment"]["PGPASSWORD"] == services["database"]["environment"]["POSTGRES_PASSWORD"]
    assert not re.search(r"PASSWORD(: +|=)[^$\s]", text), "no password is shipped"
    (tmp_path / "mlflow.env").write_text("SERVER_NAME=team.example.org\n")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and "see the head of compose.yaml" in done.stderr


def test_the_image_installs_pinned_packages_and_the_server_needs_no_others(tmp_path: Path) -> None:
    text = (SHIPPED / "Dockerfile").read_text()
    (installed,) = re.findall(r"pip install --no-cache-dir -c /srv/constraints.txt (.*)", text)
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert set(installed.split()) <= pinned
    assert 'ENTRYPOINT ["python", "-m", "mlflow_server.cli"]' in text
    without = """
import sys
for name in ("torch", "ray", "optuna", "search", "trainable", "rich", "filelock"):
    sys.modules[name] = None
import mlflow_server.backup, mlflow_server.clean, mlflow_server.team
from mlflow_server.cli import main
sys.exit(main(["backup", sys.argv[1] + "/backup", "--home", sys.argv[1]]))
"""
    done = subprocess.run([sys.executable, "-c", without, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and f"there is no {tmp_path}/mlflow/mlflow.db" in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())  # and leaves nothing behind
