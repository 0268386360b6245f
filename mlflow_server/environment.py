"""The environment in which an MLflow server of ours runs: an allow-list, so that nothing of other work reaches it.

A shell may hold MLFLOW_DEFAULT_ARTIFACT_ROOT, MLFLOW_SERVER_ALLOWED_HOSTS, MLFLOW_GUNICORN_OPTS, GUNICORN_CMD_ARGS and
many more from other work; a server that reads them may send models and slices to another machine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOPBACK = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1", "[::1]")

_KEPT = re.compile(
    "|".join(
        (
            # the process: where programs, libraries and temporary files are, and in which language
            "PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_.*|TZ|TMPDIR|TEMP|TMP|XDG_.*",
            "LD_LIBRARY_PATH|LD_PRELOAD|VIRTUAL_ENV|CONDA_.*",
            "PYTHONPATH|PYTHONHOME|PYTHONUSERBASE|PYTHONNOUSERSITE|PYTHONDONTWRITEBYTECODE|PYTHONPYCACHEPREFIX",
            "OMP_NUM_THREADS|OPENBLAS_NUM_THREADS|MKL_NUM_THREADS",
            # the way to a team's stores
            "SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE",
            "(?i:https?_proxy|all_proxy|no_proxy)",
            "PG.*|AWS_.*|MLFLOW_S3_.*",
        )
    )
)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What of `environment` a server may see; loopback bypasses every proxy in it."""
    kept = {name: value for name, value in environment.items() if _KEPT.fullmatch(name)}
    return kept | without_proxy_for_loopback(kept)


def without_proxy_for_loopback(environment: Mapping[str, str]) -> dict[str, str]:
    """`no_proxy` and `NO_PROXY` with what `environment` has there and this machine: S3 may run on it."""
    given = [part.strip() for name in ("no_proxy", "NO_PROXY") for part in environment.get(name, "").split(",")]
    spared = "*" if "*" in given else ",".join(dict.fromkeys(filter(None, [*given, *LOOPBACK])))
    return {"no_proxy": spared, "NO_PROXY": spared}
