"""Building the cache against Pillow alone: 2,500 slices decoded and resized on every core.

    python benchmarks/decode_cache.py [--data ../shared/data/covid-ct/manifest.csv]

Ours reads, hashes, decodes, resizes and writes one file that is renamed when whole; Pillow alone opens, turns to grey
and resizes with the same filter in as many threads, each with its share of the files, and keeps nothing. In turns; the
file cache is warm. Synthetic slices are PNGs without compression, of which decoding is little more than a copy. Slices
of the test split are left alone; the others are repeated until there are enough. Goal: 0.9. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

if __name__ == "__main__":  # the script's folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from PIL import Image

from trainable.images.cache import build_cache
from trainable.images.manifest import read_manifest
from trainable.images.synthetic import write_synthetic_set


def time_rate(work: Callable[[], object], num_images: int) -> float:
    began_s = time.perf_counter()
    work()
    return num_images / (time.perf_counter() - began_s)


def decode_by_pillow(path: Path, size: int) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((size, size), Image.Resampling.BILINEAR))


def compare(paths: Sequence[Path], size: int, num_workers: int, num_rounds: int) -> dict[str, object]:
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]

    def build() -> None:
        with tempfile.TemporaryDirectory() as folder:
            build_cache(paths, hashes=hashes, size=size, folder=Path(folder), num_workers=num_workers)

    def decode_share(share: Sequence[Path]) -> None:
        for path in share:
            decode_by_pillow(path, size)

    def decode() -> None:
        with ThreadPoolExecutor(num_workers) as threads:
            for _ in threads.map(decode_share, [paths[first::num_workers] for first in range(num_workers)]):
                pass

    rates: dict[str, list[float]] = {"ours": [], "pillow": []}
    for number in range(num_rounds):
        for name in ("ours", "pillow") if number % 2 else ("pillow", "ours"):
            rates[name].append(time_rate(build if name == "ours" else decode, len(paths)))
    ratios = [ours / pillow for ours, pillow in zip(rates["ours"], rates["pillow"], strict=True)]
    return {
        "num_slices": len(paths),
        "image_size": size,
        "num_workers": num_workers,
        "ours_per_s": round(statistics.median(rates["ours"])),
        "pillow_per_s": round(statistics.median(rates["pillow"])),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="default: the synthetic set at 256 px")
    parser.add_argument("--num-slices", type=int, default=2500)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--num-rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or write_synthetic_set(Path(folder) / "synthetic", image_size=256)
        slices = read_manifest(data, unpack_into=Path(folder) / "unpacked").slices
        paths = list(islice(cycle(item.path for item in slices if item.split != "test"), args.num_slices))
        found = compare(paths, args.image_size, os.cpu_count() or 1, args.num_rounds)
    print(
        json.dumps(
            {"benchmark": "decode_cache", "data": "synthetic" if args.data is None else args.data.parent.name} | found
        )
    )


if __name__ == "__main__":
    main()
