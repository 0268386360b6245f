"""Sets that have changed since their splits were drawn: files, members of volumes, archives."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.core.config import SearchConfig
from search.core.folder import SearchFolder, create_search
from search.preparation.changes import accept_changes, find_changes, refuse_changes
from tests.trainable.images.phantoms import draw_chest, save_nifti
from tests.trainable.images.series_files import save_enhanced
from trainable.images.prepare import prepare_data
from trainable.images.splits import read_splits


def begin(data: Path, home: Path) -> tuple[SearchConfig, SearchFolder]:
    """A search that has drawn its splits, and gone no further."""
    config = SearchConfig(name="first", home=home, data=data, slices="every:3")
    folder = create_search(home, "first", {"config": config.to_record()})
    prepare_data(
        data,
        cache_dir=folder.cache,
        splits_file=folder.splits_file,
        image_size=32,
        seed=0,
        slice_rule=config.slice_rule,
        num_workers=2,
    )
    return config, folder


def save_volumes(root: Path, *, enhanced: bool) -> list[Path]:
    files = []
    for number in range(20):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        values = draw_chest(seed=number)
        if enhanced:
            files.append(save_enhanced(folder / f"P{number}" / f"scan{number}", values, patient=f"P{number}"))
        else:
            files.append(save_nifti(folder / f"scan{number}.nii.gz", values))
    return files


@pytest.mark.parametrize("enhanced", [False, True])
def test_slices_of_a_volume_that_has_changed_are_told_and_accepted(enhanced: bool, tmp_path: Path) -> None:
    files = save_volumes(tmp_path / "set", enhanced=enhanced)
    config, folder = begin(tmp_path / "set", tmp_path / "home")
    refuse_changes(config, folder)
    files[3].unlink()
    assert find_changes(config, folder) == [], "what is gone is no change"
    values = draw_chest(seed=99)
    save = save_enhanced if enhanced else save_nifti
    save(files[3], values)
    with pytest.raises(
        ValueError, match=rf"3 of the images have changed, such as .*{files[3].name}#.*--accept-changes"
    ):
        refuse_changes(config, folder)
    assert accept_changes(config, folder) != ()
    assert find_changes(config, folder) == []
    folder.release()


def test_an_archive_that_has_changed_is_told_and_followed(tmp_path: Path) -> None:
    files = [tmp_path / "set" / "ab"[number % 2] / f"P{number}" / f"{number}.png" for number in range(20)]
    for number, file in enumerate(files):
        file.parent.mkdir(parents=True)
        noise = np.random.default_rng(number).integers(0, 256, (40, 40), dtype=np.uint8)
        Image.fromarray(noise).save(file)
    data = Path(shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "set"))
    config, folder = begin(data, tmp_path / "home")
    refuse_changes(config, folder)
    before = {row.path.name: row for row in read_splits(folder.splits_file)}

    files[3].write_bytes(files[3].read_bytes() + b"\0")
    shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "set")
    with pytest.raises(ValueError, match=r"20 of the images come from an archive that has changed \(.*set.zip\)"):
        refuse_changes(config, folder)
    accept_changes(config, folder)
    assert find_changes(config, folder) == []
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    after = {row.path.name: row for row in read_splits(folder.splits_file)}
    assert all(digest in row.path.parts for row in after.values())
    assert {name: row.split for name, row in after.items()} == {name: row.split for name, row in before.items()}
    changed = [name for name, row in after.items() if row.sha256 != before[name].sha256]
    assert changed == [files[3].name]
    data.unlink()
    assert find_changes(config, folder) == [], "what is gone is no change"
    folder.release()
