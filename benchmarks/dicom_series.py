"""Reading a DICOM series: 300 slices of 512 x 512 found, sorted and decoded, plain and compressed.

    python benchmarks/dicom_series.py [--num-slices 300] [--syntax plain jpeg-lossless jpeg-ls jpeg-2000]
                                      [--layout series enhanced] [--neighbours 0]

Slices are noise on waves, written to a temporary folder under names in no order, or as the frames of one enhanced CT;
the file cache is warm. Headers and pixels, as a model of 224 px takes them, are timed apart, in two threads. Goal: 10 s
on 2 cores. Prints one JSON line a syntax and layout; `cpu_s` is of all threads together, which counts on a busy
machine: half of it is what two free cores need where both threads are busy all the time (`one_thread_cpu_s`, the busier
thread's, says whether they are).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":  # the script's folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from tests.trainable.images.dicom_files import ENHANCED_CT, build, item, save
from trainable.images.pixel_format import PixelFormat
from trainable.images.scans import find_scans, read_scan
from trainable.images.slice_rule import SliceRule

IMAGE_SIZE = 224
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


def draw_slices(num_slices: int) -> Iterator[NDArray[np.uint16]]:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:512, :512]
    waves = 600 + 400 * np.sin(columns / 40) * np.cos(rows / 50)
    for number in range(num_slices):
        yield (waves + rng.integers(0, 60, waves.shape) + number).astype(np.uint16)


def pack_frames(dataset: Dataset, frames: list[NDArray[np.uint16]], syntax: UID | None) -> bytes:
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([compress(frame, syntax) for frame in frames])
        dataset["PixelData"].VR = "OB"
    return save(dataset)


def write_series(folder: Path, num_slices: int, syntax: UID | None) -> None:
    names = np.random.default_rng(1).permutation(num_slices)
    for number, (name, stored) in enumerate(zip(names, draw_slices(num_slices), strict=True)):
        dataset = build(stored, bits=12, RescaleSlope=1, RescaleIntercept=-1024, SeriesInstanceUID="1.2.3")
        dataset.ImagePositionPatient = [0, 0, float(number)]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        (folder / f"IM{name}").write_bytes(pack_frames(dataset, [stored], syntax))


def write_enhanced(folder: Path, num_slices: int, syntax: UID | None) -> None:
    frames = list(draw_slices(num_slices))
    dataset = build(np.stack(frames), bits=12, SOPClassUID=ENHANCED_CT, NumberOfFrames=num_slices)
    rescale = item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    dataset.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelValueTransformationSequence=[rescale],
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, float(number)])]) for number in range(num_slices)
    ]
    (folder / "enhanced").write_bytes(pack_frames(dataset, frames, syntax))


LAYOUTS = {"series": write_series, "enhanced": write_enhanced}


def measure(layout: str, num_slices: int, syntax: UID | None, neighbours: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        LAYOUTS[layout](Path(folder), num_slices, syntax)
        cpu_before = read_thread_seconds()
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        (scan,) = find_scans(sorted(Path(folder).iterdir()), num_workers=2)
        sorted_s, sorted_cpu_s = time.perf_counter(), time.process_time()
        busiest_s = 0.0
        num_read = 0
        for _ in read_scan(scan, IMAGE_SIZE, PixelFormat(neighbours=neighbours), SliceRule(), num_workers=2):
            num_read += 1
            spent = read_thread_seconds()
            busiest_s = max([busiest_s, *(spent[key] - cpu_before.get(key, 0.0) for key in spent)])
        ended_s, ended_cpu_s = time.perf_counter(), time.process_time()
    return {
        "num_slices": num_read,
        "find_and_sort_s": round(sorted_s - began_s, 2),
        "find_and_sort_cpu_s": round(sorted_cpu_s - began_cpu_s, 2),
        "decode_s": round(ended_s - sorted_s, 2),
        "cpu_s": round(ended_cpu_s - began_cpu_s, 2),
        "one_thread_cpu_s": round(busiest_s, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def read_thread_seconds() -> dict[str, float]:
    """CPU seconds of each thread of this process that is alive (Linux)."""
    ticks = os.sysconf("SC_CLK_TCK")
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            fields = (task / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        found[task.name] = (int(fields[11]) + int(fields[12])) / ticks
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-slices", type=int, default=300)
    parser.add_argument("--syntax", nargs="+", choices=SYNTAXES, default=list(SYNTAXES))
    parser.add_argument("--layout", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--neighbours", type=int, default=0)
    args = parser.parse_args()
    for layout in args.layout:
        for name in args.syntax:
            found = measure(layout, args.num_slices, SYNTAXES[name], args.neighbours)
            print(json.dumps({"benchmark": "dicom_series", "layout": layout, "syntax": name} | found), flush=True)


if __name__ == "__main__":
    main()
