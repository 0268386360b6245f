"""The audit: planted near-duplicates found, false alarms, and seconds for 10,000 images.

    python benchmarks/audit.py [--data ../shared/data/covid-ct/manifest.csv] [--num-images 10000] [--num-workers 2]

Of the first slice of every patient in train and val, 25 at random are changed in each way and hidden among the others;
found is a pair of a copy and its original, a false alarm any other pair of originals but those that the set has
printed twice (`PRINTED_TWICE`, looked at one by one). The time is that of `audit_data` on synthetic slices as files,
four of each patient: reading, decoding, near-duplicates, shortcuts and the page. Slices of the test split are left
alone. Goals: 23 of 25 of each kind, no false alarm, 120 s. Prints one JSON line; without `--data` the first half is
left out.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":  # the script's folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from PIL import Image, ImageOps

from trainable.images.audit_data import audit_data
from trainable.images.audit_page import write_audit
from trainable.images.decode import decode_grey, resize_grey
from trainable.images.manifest import read_manifest
from trainable.images.near_duplicates import THUMBNAIL_SIZE, find_near_duplicates
from trainable.images.synthetic import write_synthetic_set

NUM_PLANTED = 25
PRINTED_TWICE = {("2020.03.22.20040782-p24-1533-2.png", "2020.03.22.20040782-p25-1541.png")}

Change = Callable[[Image.Image], Image.Image]


def shift(image: Image.Image, across: float, down: float) -> Image.Image:
    offsets = (1, 0, -across * image.width, 0, 1, -down * image.height)
    return image.transform(image.size, Image.Transform.AFFINE, offsets)


def crop_corner(image: Image.Image, share: float) -> Image.Image:
    return image.crop((0, round(share * image.height), image.width - round(share * image.width), image.height))


CHANGES: dict[str, Change] = {
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned by 180 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "turned by 270 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_270),
    "inverted": ImageOps.invert,
    "shifted by 4 %": lambda image: shift(image, 0.04, 0.04),
    "shifted by 4 % across": lambda image: shift(image, -0.04, 0),
    "turned by 5 degrees": lambda image: image.rotate(5, Image.Resampling.BILINEAR),
    "turned by -5 degrees": lambda image: image.rotate(-5, Image.Resampling.BILINEAR),
    "cropped at one corner by 5 %": lambda image: crop_corner(image, 0.05),
    "cropped at one corner by 10 %": lambda image: crop_corner(image, 0.10),
    "cropped at one corner by 15 %": lambda image: crop_corner(image, 0.15),
    "bordered by 5 %": lambda image: ImageOps.expand(image, round(0.05 * image.width)),
    "mirrored, inverted, corner cropped by 5 %": lambda image: ImageOps.invert(
        crop_corner(ImageOps.mirror(image), 0.05)
    ),
    "mirrored, turned by 90 and 5 degrees": lambda image: ImageOps.mirror(
        image.transpose(Image.Transpose.ROTATE_90)
    ).rotate(5, Image.Resampling.BILINEAR),
}


def find_planted(data: Path, seed: int) -> dict[str, object]:
    """How many of 25 copies of each kind are found, and which pairs of originals are taken for copies."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = read_manifest(data, unpack_into=Path(folder))
    first = {item.patient: item.path for item in reversed(manifest.slices) if item.split != "test"}
    paths = sorted(first.values())
    originals = np.stack([resize_grey(decode_grey(path), THUMBNAIL_SIZE) for path in paths])
    rng = np.random.default_rng(seed)
    found: dict[str, int] = {}
    false_alarms = set()
    for kind, change in CHANGES.items():
        chosen = rng.choice(len(paths), NUM_PLANTED, replace=False)
        copies = np.stack([resize_grey(change(decode_grey(paths[index])), THUMBNAIL_SIZE) for index in chosen])
        pairs = {(i, j) for i, j, _ in find_near_duplicates(np.concatenate([originals, copies]))}
        found[kind] = sum((int(index), len(paths) + at) in pairs for at, index in enumerate(chosen))
        false_alarms |= {(paths[i].name, paths[j].name) for i, j in pairs if j < len(paths)} - PRINTED_TWICE
    return {"num_originals": len(paths), "found_of_25": found, "false_alarms": sorted(false_alarms)}


def time_audit(num_images: int, num_workers: int) -> dict[str, object]:
    """Seconds of the wall clock and of the processor for one audit of synthetic slices of 128 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_synthetic_set(
            Path(folder) / "set", num_patients=num_images // 4, slices_per_patient=4, image_size=128
        )
        began_s, began = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        audit = audit_data(data, cache_dir=Path(folder), num_workers=num_workers)
        write_audit(Path(folder) / "page", audit)
        took_s, ended = time.perf_counter() - began_s, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    per_10000 = 10_000 / audit.num_slices
    return {
        "num_images": audit.num_slices,
        "wall_s": round(took_s, 1),
        "cpu_s": round(cpu_s, 1),
        "wall_s_per_10000": round(took_s * per_10000, 1),
        "peak_gb": round(ended.ru_maxrss / 1e6, 2),
        "pairs": len(audit.pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a manifest with patients, of real slices")
    parser.add_argument("--num-images", type=int, default=10_000)
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    result: dict[str, object] = {"benchmark": "audit"}
    if arguments.data is not None:
        result |= find_planted(arguments.data, arguments.seed)
    if arguments.num_images:
        result |= time_audit(arguments.num_images, arguments.num_workers)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
