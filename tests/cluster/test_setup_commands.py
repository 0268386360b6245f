"""The setup commands of cluster.yaml, in their order, where nothing of ours is installed yet."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from search.commands.submit import stage_code
from tests import needs
from tests.cluster.bare_root import make_bare_root
from tests.cluster.conftest import ROOT

VERSIONS = """
import json
from importlib.metadata import distributions
print(json.dumps({found.metadata["Name"].lower().replace("_", "-"): found.version for found in distributions()}))
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_setup_commands_make_a_bare_root_a_head_that_searches(tmp_path: Path, synthetic_folder: Path) -> None:
    needs.root("it mounts a root of its own")
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    with make_bare_root(tmp_path / "root") as root:
        for there, here in config["file_mounts"].items():
            target = root.home / there.removeprefix("~/")
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(ROOT / here, target)
        commands = [*config["setup_commands"], *config["head_setup_commands"]]
        assert sum("pip install" in command for command in commands) == 2
        for command in commands:
            root.run(command)

        # What is installed is what was tested, and the second time changes nothing.
        lines = re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
        pinned = {name.lower().replace("_", "-"): version for name, version in lines}
        found = json.loads(root.run(f"python -c {shlex.quote(VERSIONS)}"))
        assert {"ray", "torch", "optuna", "mlflow", "boto3"} <= set(found)
        assert {name: version for name, version in found.items() if pinned.get(name, version) != version} == {}
        assert "No broken requirements" in root.run("pip check")
        bashrc = (root.home / ".bashrc").read_text()
        assert bashrc.count("RAY_AUTH_MODE=token") == 1
        for command in commands:
            assert "Successfully installed" not in root.run(command)
        assert (root.home / ".bashrc").read_text() == bashrc

        # The head's own commands up to the start, which would ask AWS for nodes: the token of this cluster.
        (root.home / "ray_bootstrap_config.yaml").write_text("echo TOKEN_OF_THIS_CLUSTER\n")
        for command in config["head_start_ray_commands"][:-1]:
            root.run(command)
        token = (root.home / ".ray" / "auth_token").read_text().strip()
        assert len(token) > 30
        assert (root.home / "ray_bootstrap_config.yaml").read_text() == f"echo {token}\n"

        # The code as `ctsearch submit` ships it needs nothing else.
        (root.home / "job").mkdir()
        stage_code(root.home / "job")
        shutil.copytree(synthetic_folder, root.home / "slices")
        options = "--data ~/slices --arch small_cnn --image-size 32 --num-trials 1 --max-epochs 1 --name first"
        output = root.run(f"cd job && python search/run.py {options}")
        assert "Champion" in output, output
