"""Three hosts and a laptop on one machine: network namespaces on a bridge without a way out, each host with its own
sshd, process ids, host name, home and folder of Ray. Needs root, openssh-server, rsync and iproute2.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests import needs

NAMES = ("head", "worker1", "worker2")
IPS = dict(zip((*NAMES, "laptop"), ("10.99.0.1", "10.99.0.2", "10.99.0.3", "10.99.0.254"), strict=True))
SSHD = """HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
MaxStartups 100
"""
ENTER = """#!/usr/bin/env bash
# What a host has of its own: $1 is its folder, $2 the real home; the rest is what runs there.
set -euo pipefail
own=$1 home=$2
shift 2
mount --make-rprivate /
mkdir -p "$own/ray" "$own/home" "$own/old" /tmp/ray /run/sshd
mount --bind "$home" "$own/old"
mount --bind "$own/home" "$home"
for seen in {seen}; do    # what lies in the real home and must be seen: the checkout, Python
    case "$seen" in "$home"/*) mkdir -p "$seen"; mount --bind "$own/old${{seen#"$home"}}" "$seen" ;; esac
done
mount --bind "$own/ray" /tmp/ray
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
exec "$@"
"""


class Hosts:
    """Made by `start_hosts`. `folder` holds what each host has of its own, by its name."""

    def __init__(self, folder: Path, seen: Sequence[Path]) -> None:
        self.folder = folder
        self.tag = f"ct{os.getpid() % 10**6}"
        self.home = Path.home()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._enter = folder / "enter.sh"
        self._enter.write_text(ENTER.format(seen=" ".join(map(str, seen))))
        self._enter.chmod(0o755)

    def begin(self) -> None:
        for kind in ("host_key", "key"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / kind))
        (self.folder / "sshd_config").write_text(SSHD.format(folder=self.folder))
        run("ip", "netns", "add", self._ns("laptop"))
        self._ip("laptop", "link add bridge type bridge", f"addr add {IPS['laptop']}/24 dev bridge")
        self._ip("laptop", "link set bridge up", "link set lo up")
        for name in NAMES:
            run("ip", "netns", "add", self._ns(name))
            self._ip("laptop", f"link add {name} type veth peer name eth0 netns {self._ns(name)}")
            self._ip("laptop", f"link set {name} master bridge", f"link set {name} up")
            self._ip(name, f"addr add {IPS[name]}/24 dev eth0", "link set eth0 up")
            self._ip(name, f"route add default via {IPS['laptop']}")  # which leads nowhere; Ray asks it for its address
            home = self.folder / name / "home"
            home.mkdir(parents=True)
            own = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
            sshd = f"hostname {name} && exec /usr/sbin/sshd -D -e -f {self.folder}/sshd_config"
            enter = (str(self._enter), str(self.folder / name), str(self.home))
            self._start(f"{name}.log", "ip", "netns", "exec", self._ns(name), *own, *enter, "bash", "-c", sshd)

    def call(self, *command: str, environ: Mapping[str, str], timeout_s: float = 900) -> str:
        """Run a command on the laptop; its output. Raises CalledProcessError."""
        done = subprocess.run(
            self._on_laptop(command),
            env=dict(environ),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def serve(self, *command: str, environ: Mapping[str, str]) -> None:
        """Let a server run on the laptop until the end."""
        self._start("server.log", *self._on_laptop(command), environ=environ)

    def on(self, name: str, *command: str, timeout_s: float = 600) -> str:
        """Run a command on a host, over SSH from the laptop; its output."""
        ssh = ["ssh", "-q", "-i", str(self.folder / "key"), "-o", "StrictHostKeyChecking=no"]
        ssh += ["-o", "UserKnownHostsFile=/dev/null", f"root@{IPS[name]}", shlex.join(command)]
        return self.call(*ssh, environ=os.environ, timeout_s=timeout_s)

    def find_ray(self, name: str) -> list[int]:
        """The process ids of Ray on a host."""
        listed = subprocess.run(["ip", "netns", "pids", self._ns(name)], capture_output=True, text=True, check=True)
        found = []
        for pid in map(int, listed.stdout.split()):
            with suppress(FileNotFoundError, ProcessLookupError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"raylet" in command or b"gcs_server" in command or command.startswith(b"ray::"):
                    found.append(pid)
        return found

    def kill_ray(self, name: str) -> int:
        """Kill -9 every process of Ray on a host; how many there were."""
        found = self.find_ray(name)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)

    def end(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for name in (*NAMES, "laptop"):
            left = subprocess.run(["ip", "netns", "pids", self._ns(name)], capture_output=True, text=True)
            for pid in left.stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", self._ns(name)], capture_output=True)

    def _start(self, log: str, *command: str, environ: Mapping[str, str] = os.environ) -> None:
        with (self.folder / log).open("ab") as file:
            self._processes.append(subprocess.Popen(command, env=dict(environ), stdout=file, stderr=file))

    def _ns(self, name: str) -> str:
        return f"{self.tag}-{name}"

    def _ip(self, name: str, *commands: str) -> None:
        for command in commands:
            run("ip", "-n", self._ns(name), *command.split())

    def _on_laptop(self, command: Sequence[str]) -> list[str]:
        own = self.folder / "laptop"
        own.mkdir(exist_ok=True)
        inside = ("unshare", "--mount", str(self._enter), str(own), str(self.home), *command)
        return ["ip", "netns", "exec", self._ns("laptop"), *inside]


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def start_hosts(folder: Path) -> Iterator[Hosts]:
    """The hosts, up and answering; gone afterwards with all their processes."""
    needs.programs(["ip", "rsync", "ssh-keygen", "sshd", "uptime"])
    root = Path(__file__).resolve().parents[2]
    hosts = Hosts(folder, [root, Path(sys.prefix), Path(sys.base_prefix)])
    try:
        hosts.begin()
        until_s = time.monotonic() + 300
        for name in NAMES:
            while True:
                try:
                    assert hosts.on(name, "hostname", timeout_s=20).strip() == name
                    break
                except AssertionError:
                    if time.monotonic() > until_s:
                        raise
                    time.sleep(0.5)
        yield hosts
    finally:
        hosts.end()
