from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from trainable.images import archive
from trainable.images.archive import is_archive, unpack


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def _tar(path: Path, members: dict[str, bytes], mode: str = "w", kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, "../../secret"
            file.addfile(info, io.BytesIO(content))
    return path


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


MEMBERS = {"a/1 %20.png": b"one", "b/ü/2.png": b"two"}


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_every_kind_is_unpacked_under_its_hash_once(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "content decides"
    if suffix == "zip":
        _zip(path, MEMBERS)
    else:
        _tar(path, MEMBERS, "w:" + suffix.partition(".")[2])
    assert is_archive(path)
    folder = unpack(path, tmp_path / "into")
    assert folder.parent == tmp_path / "into" and len(folder.name) == 64
    assert _files(folder) == MEMBERS
    (folder / "a/1 %20.png").write_bytes(b"reused")
    assert unpack(path, tmp_path / "into") == folder
    assert _files(folder)["a/1 %20.png"] == b"reused"


def test_what_a_killed_process_left_is_built_anew(tmp_path: Path) -> None:
    path = _zip(tmp_path / "x.zip", MEMBERS)
    folder = unpack(path, tmp_path / "into")
    folder.rename(folder.with_name(folder.name + ".partial"))
    (folder.with_name(folder.name + ".partial") / "rubbish").write_text("")
    assert _files(unpack(path, tmp_path / "into")) == MEMBERS
    assert not list((tmp_path / "into").glob("*.partial"))


@pytest.mark.parametrize(
    "name",
    [
        "../out.png",
        "a/../../out.png",
        "/tmp/ctsearch-out.png",
        "C:/out.png",
        "a\\..\\..\\out.png",
        "\\out.png",
    ],
)
@pytest.mark.parametrize("make", [_zip, _tar])
def test_a_member_that_leaves_its_folder_is_an_error_that_names_it(make, name: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = make(tmp_path / "hostile", {"a/fine.png": b"x", name: b"x"})
    with pytest.raises(ValueError, match=r"hostile holds .*out\.png"):
        unpack(path, tmp_path / "deep/into")
    assert not list(tmp_path.rglob("*.png")) and not Path("/tmp/ctsearch-out.png").exists()
    assert not [entry for entry in (tmp_path / "deep/into").iterdir() if entry.is_dir()]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_link_or_device_in_a_tar_is_an_error_that_names_it(kind: bytes, tmp_path: Path) -> None:
    path = _tar(tmp_path / "x.tar", {"a/strange": b""}, kind=kind)
    with pytest.raises(ValueError, match=r"a/strange.*link or a device"):
        unpack(path, tmp_path / "into")


def test_a_link_in_a_zip_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        info = zipfile.ZipInfo("a/strange")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match=r"a/strange.*link or a device"):
        unpack(path, tmp_path / "into")


@pytest.mark.parametrize("members", [["a/x", "a/x"], ["a", "a/x"], ["a/x/y", "a/x"]])
def test_members_that_clash_are_an_error(members: list[str], tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as file:
        for name in members:
            file.addfile(tarfile.TarInfo(name))
    with pytest.raises(ValueError, match="twice, or as a file and as a folder"):
        unpack(path, tmp_path / "into")


@pytest.mark.parametrize("make", [_zip, lambda path, members: _tar(path, members, "w:xz")])
def test_an_archive_bomb_is_stopped(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(archive, "MIN_LIMIT_BYTES", 1000)
    path = make(tmp_path / "bomb", {"a/zeros.png": bytes(20_000_000)})
    with pytest.raises(ValueError, match=r"unpacks to more than .*zeros\.png"):
        unpack(path, tmp_path / "into")
    assert not list(tmp_path.rglob("*.png"))


def test_too_many_members_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 10)
    with pytest.raises(ValueError, match="more than 10 members"):
        unpack(_zip(tmp_path / "x.zip", {f"a/{i}": b"" for i in range(11)}), tmp_path / "into")


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_damaged_archive_is_an_error_that_names_it(suffix: str, tmp_path: Path) -> None:
    members = {f"a/{i}.png": (b"%d, " % i) * 5000 for i in range(20)}
    path = tmp_path / f"damaged.{suffix}"
    if suffix == "zip":
        _zip(path, members)
        content = bytearray(path.read_bytes())
        content[200] ^= 0xFF
        path.write_bytes(content)
    else:
        _tar(path, members, "w:" + suffix.partition(".")[2])
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(ValueError, match="damaged"):
        unpack(path, tmp_path / "into")
    assert not [entry for entry in (tmp_path / "into").iterdir() if entry.is_dir()]


def test_an_encrypted_zip_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = _zip(tmp_path / "x.zip", {"a/x": b"x"})
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")
    path.write_bytes(content[: directory + 8] + b"\x01" + content[directory + 9 :])
    with pytest.raises(ValueError, match="encrypted"):
        unpack(path, tmp_path / "into")


def test_what_is_no_archive_is_not_taken_for_one(tmp_path: Path) -> None:
    for content in (b"", b"path,label\n", bytes(100)):
        (tmp_path / "x.zip").write_bytes(content)
        assert not is_archive(tmp_path / "x.zip")


@pytest.mark.timeout(60)
def test_a_pipe_is_no_archive_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "set")
    assert not is_archive(tmp_path / "set")
    assert not is_archive(Path("/dev/zero"))
