"""On a spot node of AWS: EC2's notice, two minutes ahead, becomes `ray drain-node`; trials then checkpoint at once.

Started by cluster.yaml beside Ray on every worker; on one that is no spot node there is never a notice. Needs nothing
but Python and Ray's command.
"""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request

METADATA = os.environ.get("EC2_METADATA", "http://169.254.169.254")
POLL_S, AHEAD_S = float(os.environ.get("EC2_METADATA_POLL_S", "5")), 110


def ask(path: str, method: str = "GET", **headers: str) -> str | None:
    """EC2's instance metadata, version 2; None where it has no such thing, or does not answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{METADATA}/latest/{path}", method=method, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return None


def is_given_notice() -> bool:
    token = ask("api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
    return token is not None and ask("meta-data/spot/instance-action", X_aws_ec2_metadata_token=token) is not None


def main() -> None:
    while not is_given_notice():
        time.sleep(POLL_S)
    drain = ["ray", "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot notice"]
    subprocess.run([*drain, "--deadline-remaining-seconds", str(AHEAD_S)], check=True)


if __name__ == "__main__":
    main()
