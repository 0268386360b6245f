"""Reading a DICOM series: 300 slices of 512 x 512 found, sorted and decoded, plain and compressed.

    python benchmarks/dicom_series.py [--num-slices 300] [--syntax plain jpeg-lossless jpeg-ls jpeg-2000]

Slices are noise on waves, written to a temporary folder under names in no order; the file cache is warm. Headers and
pixels are timed apart, in two threads. Goal: under 10 s on 2 cores. Prints one JSON line a syntax.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":  # the script's folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from tests.trainable.images.dicom_files import build, pack, save
from trainable.images.series import decode_series, find_series

SYNTAXES: dict[str, UID | None] = {
    "plain": None,
    "jpeg-lossless": JPEGLosslessSV1,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
}


def compress(stored: NDArray[np.uint16], syntax: UID) -> bytes:
    if syntax == JPEGLosslessSV1:
        return bytes(imagecodecs.ljpeg_encode(stored, bitspersample=12))
    if syntax == JPEGLSLossless:
        return bytes(imagecodecs.jpegls_encode(stored))
    return bytes(imagecodecs.jpeg2k_encode(stored, bitspersample=12, reversible=True, codecformat="j2k"))


def write_slices(folder: Path, num_slices: int, syntax: UID | None) -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:512, :512]
    waves = 600 + 400 * np.sin(columns / 40) * np.cos(rows / 50)
    for number, name in enumerate(rng.permutation(num_slices)):
        stored = (waves + rng.integers(0, 60, waves.shape) + number).astype(np.uint16)
        dataset = build(stored, bits=12, RescaleSlope=1, RescaleIntercept=-1024, SeriesInstanceUID="1.2.3")
        dataset.ImagePositionPatient = [0, 0, float(number)]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        if syntax is not None:
            pack(dataset, compress(stored, syntax), syntax)
        (folder / f"IM{name}").write_bytes(save(dataset))


def measure(num_slices: int, syntax: UID | None) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        write_slices(Path(folder), num_slices, syntax)
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        (series,) = find_series(Path(folder).iterdir()).series
        sorted_s = time.perf_counter()
        pixels, _ = decode_series(series)
        ended_s, ended_cpu_s = time.perf_counter(), time.process_time()
    return {
        "num_slices": len(pixels),
        "find_and_sort_s": round(sorted_s - began_s, 2),
        "decode_s": round(ended_s - sorted_s, 2),
        "cpu_s": round(ended_cpu_s - began_cpu_s, 2),  # of all threads: what counts on a busy machine
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-slices", type=int, default=300)
    parser.add_argument("--syntax", nargs="+", choices=SYNTAXES, default=list(SYNTAXES))
    args = parser.parse_args()
    for name in args.syntax:
        found = measure(args.num_slices, SYNTAXES[name])
        print(json.dumps({"benchmark": "dicom_series", "syntax": name} | found), flush=True)


if __name__ == "__main__":
    main()
