"""Proxies: calls to this machine, and to machines of the own cluster, never go through one.

Hospitals and clusters set `http_proxy` for all that leaves the house. Without a `no_proxy` the clients of MLflow, S3
and urllib hand it even what they want of 127.0.0.1.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1", "[::1]")
"""urllib compares text and wants brackets, requests understands networks."""
EVERYTHING = "*"
_VARIABLES = ("no_proxy", "NO_PROXY")
_OF_GRPC = "no_grpc_proxy"  # where it is set, gRPC does not look at no_proxy


def bypass_proxies(hosts: Iterable[str] = ()) -> str:
    """Add loopback, this machine's own names and `hosts` to `no_proxy` and `NO_PROXY` of this process.

    `hosts` are names, addresses or URLs of machines of the own cluster. What the variables hold already stays; child
    processes inherit them. To be called before the first request, as often as more hosts are known. Returns the list.
    """
    wanted = [*LOOPBACK, *own_hosts(), *(name for host in hosts for name in _forms(host))]
    given = [part for name in _VARIABLES for part in os.environ.get(name, "").replace(" ", "").split(",") if part]
    # a star counts only where it stands alone
    value = EVERYTHING if EVERYTHING in given else ",".join(dict.fromkeys([*given, *wanted]))
    os.environ.update(dict.fromkeys(_VARIABLES, value))
    if _OF_GRPC in os.environ:
        os.environ[_OF_GRPC] = value
    return value


def own_hosts() -> tuple[str, ...]:
    """The names and the address by which other machines call this one; asks no name server."""
    name = socket.gethostname()
    address = _outward_address()
    return tuple(dict.fromkeys(filter(None, (name, address))))


def _outward_address() -> str | None:
    """The address of the interface that leads out, if any. Connecting a datagram socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of the block for documentation, RFC 5737
            return str(probe.getsockname()[0])
        except OSError:
            return None


def _host_of(uri: str) -> str:
    if uri.count(":") > 1 and "://" not in uri and not uri.startswith("["):
        return uri  # a bare IPv6 address
    return urlsplit(uri if "://" in uri else f"//{uri}").hostname or ""


def _forms(uri: str) -> tuple[str, ...]:
    host = _host_of(uri)
    return (host, f"[{host}]") if ":" in host else (host,) if host else ()
