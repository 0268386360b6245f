"""What tests need beside Python is named where it is missing, and installed where CI runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import needs
from tests.conftest import ROOT


def test_a_missing_program_skips_by_the_name_of_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.needs.shutil.which", lambda name, path=None: None)
    with pytest.raises(pytest.skip.Exception, match="needs nginx, of Debian's package nginx-light"):
        needs.program("nginx")


def test_a_program_outside_a_users_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "openssl").write_text("#!/bin/sh\n")
    (tmp_path / "openssl").chmod(0o755)
    assert needs.program("openssl") == str(tmp_path / "openssl")


def test_missing_postgresql_root_and_data_skip_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.needs.POSTGRES_PROGRAMS", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="Debian's package postgresql"):
        needs.postgres()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(pytest.skip.Exception, match="needs root: it mounts"):
        needs.root("it mounts")
    with pytest.raises(pytest.skip.Exception, match="needs shared/data beside the checkout"):
        needs.shared(tmp_path / "shared" / "data")


def test_ci_installs_every_package_that_a_bare_image_lacks() -> None:
    lines = (ROOT / ".ci" / "packages.txt").read_text().splitlines()
    installed = {line for line in lines if line and not line.startswith("#")}
    assert {*needs.PACKAGES.values(), "postgresql"} <= installed
