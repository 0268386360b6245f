"""How often photos, noise and pages of text are set apart from chest CT slices, and real slices are taken for none.

    python benchmarks/not_ct.py [--data ../shared/data/covid-ct/manifest.csv] [--image-size 128] [--test]

What a slice looks like is learnt as a search does it, from training and validation slices. Each of these is counted
as judged by slices of other patients; `--test` counts the test slices too: nothing is chosen by them. Goals: at most
5 % of real slices flagged, at least 95 % of every other kind. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # the script's folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from sklearn.datasets import load_digits, load_sample_image
from sklearn.model_selection import GroupKFold

from trainable.images.decode import decode_with_colour, resize_grey
from trainable.images.likeness import Likeness, fit_likeness
from trainable.images.prepare import TrainingData, prepare_data
from trainable.images.splits import read_splits
from trainable.images.synthetic import write_synthetic_set

WORDS = (
    "the",
    "of",
    "a",
    "trial",
    "lung",
    "slice",
    "image",
    "model",
    "value",
    "test",
    "figure",
    "with",
    "epochs",
    "and",
)
KINDS = ("photos", "grey photos", "noise", "pages", "digits", "blank")


def draw_photos(rng: np.random.Generator, count: int) -> Iterator[Image.Image]:
    """scikit-learn's two sample photos: whole, and crops of 30 % to 100 %, some square, mirrored, of many sizes."""
    photos = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    for index in range(count):
        photo = photos[index % 2]
        share = 1.0 if index < 2 else rng.uniform(0.3, 1)
        width, height = int(photo.width * share), int(photo.height * share)
        if index % 3 == 2:
            width = height = min(width, height)
        left, top = rng.integers(0, photo.width - width + 1), rng.integers(0, photo.height - height + 1)
        crop = photo.crop((int(left), int(top), int(left) + width, int(top) + height))
        if rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        scale = rng.uniform(0.3, 2)
        yield crop.resize((max(int(width * scale), 64), max(int(height * scale), 64)))


def draw_noise(rng: np.random.Generator, count: int) -> Iterator[Image.Image]:
    """Uniform, normal, salt and pepper, coloured, of a power spectrum like that of nature, and blurred."""
    for index in range(count):
        side = int(rng.integers(64, 512))
        uniform = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        values: np.ndarray = uniform[..., 0]
        match index % 6:
            case 1:
                values = rng.normal(rng.uniform(40, 215), rng.uniform(5, 70), (side, side))
            case 2:
                values = np.where(rng.random((side, side)) < rng.uniform(0.05, 0.5), 255, 0)
            case 3:
                values = uniform
            case 4:
                radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
                waves = np.fft.rfft2(rng.normal(size=(side, side))) / np.maximum(radius, 1 / side) ** rng.uniform(
                    0.5, 2
                )
                values = np.fft.irfft2(waves, s=(side, side))
            case 5:
                blur = ImageFilter.GaussianBlur(rng.uniform(1, 6))
                values = np.asarray(Image.fromarray(uniform[..., 0]).filter(blur), dtype=float)
        if index % 6 in (4, 5):
            values = (values - values.min()) * (255 / np.ptp(values))
        yield Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def draw_pages(rng: np.random.Generator, count: int) -> Iterator[Image.Image]:
    """Rendered text of many sizes, dark on light and light on dark."""
    for _ in range(count):
        width, size = int(rng.integers(200, 900)), int(rng.integers(9, 32))
        height = int(width * rng.uniform(0.7, 1.45))
        ink, paper = (0, 255) if rng.random() < 0.7 else (235, 20)
        page, font = Image.new("L", (width, height), paper), ImageFont.load_default(size)
        pen, margin = ImageDraw.Draw(page), int(width * rng.uniform(0.02, 0.12))
        for top in range(margin, height - margin - size, int(size * 1.4)):
            if rng.random() < 0.08:
                continue
            line, room = "", (width - 2 * margin) * (rng.uniform(0.2, 0.9) if rng.random() < 0.15 else 1) - 3 * size
            while pen.textlength(line, font=font) < room:
                line += f"{rng.choice(WORDS)} "
            pen.text((margin, top), line, fill=ink, font=font)
        yield page


def draw_kind(kind: str, count: int, seed: int = 0) -> Iterator[Image.Image]:
    rng = np.random.default_rng(seed)
    if kind == "photos":
        yield from draw_photos(rng, count)
    elif kind == "grey photos":
        yield from (photo.convert("L") for photo in draw_photos(rng, count))
    elif kind == "noise":
        yield from draw_noise(rng, count)
    elif kind == "pages":
        yield from draw_pages(rng, count)
    elif kind == "digits":
        for digit in load_digits().images[:count]:
            yield Image.fromarray((digit * (255 / 16)).astype(np.uint8)).resize((128, 128))
    else:
        yield from (Image.new("L", (128, 128), int(grey)) for grey in np.linspace(0, 255, min(count, 20)))


def save_to_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def count_flagged(likeness: Likeness, sources: Sequence[Path | bytes], image_size: int) -> float:
    """The share of images that are doubted."""
    decoded = [decode_with_colour(source) for source in sources]
    pixels = np.stack([resize_grey(grey, image_size) for grey, _ in decoded])
    reasons = likeness.doubt(pixels, [colour for _, colour in decoded])
    return sum(map(bool, reasons)) / len(reasons)


def hold_out(data: TrainingData, files: Sequence[Path], folder: Path) -> float:
    """The share of train and val slices that are doubted when they are judged by those of other patients."""
    flagged = 0.0
    pixels = np.load(data.pixels_path)
    for fold, (seen, held_out) in enumerate(GroupKFold(5).split(pixels, groups=data.groups)):
        part = folder / f"fold-{fold}.npy"
        np.save(part, pixels[seen])
        likeness = fit_likeness(
            replace(data, pixels_path=str(part), groups=data.groups[seen]), [files[index] for index in seen]
        )
        flagged += len(held_out) * count_flagged(likeness, [files[index] for index in held_out], data.image_size)
    return flagged / len(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="default: the synthetic set")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--count", type=int, default=600, help="images of each kind")
    parser.add_argument("--test", action="store_true", help="count the test slices too, once all else is fixed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        splits = folder / "splits.csv"
        prepared = prepare_data(
            args.data or write_synthetic_set(folder / "synthetic"),
            cache_dir=folder / "cache",
            splits_file=splits,
            image_size=args.image_size,
            seed=0,
        )
        data, rows = prepared.training, read_splits(splits)
        files = [row.path for part in ("train", "val") for row in rows if row.split == part and row.kept]
        likeness = fit_likeness(data, files)
        result: dict[str, object] = {
            "data": data.name,
            "image_size": args.image_size,
            "limits": {name: round(limit, 3) for name, limit in likeness.limits.items()},
            "train and val, by other patients": round(hold_out(data, files, folder), 4),
        }
        if args.test:
            test = [row.path for row in rows if row.split == "test"]
            result["test"] = round(count_flagged(likeness, test, args.image_size), 4)
            result["num_test"] = len(test)
        for kind in KINDS:
            images = [save_to_bytes(image) for image in draw_kind(kind, args.count)]
            result[kind] = round(count_flagged(likeness, images, args.image_size), 4)
        print(json.dumps(result))


if __name__ == "__main__":
    main()
