"""Answers: what a model says of image files and volumes, one after the other, with what is wrong where it says none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from trainable.classify import see
from trainable.images.decode import BadImageError
from trainable.images.scans import Scan, open_scan, read_scan
from trainable.images.slice_rule import SliceRule

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from trainable.classifier import Classifier
    from trainable.explain import Explainer

Seen = tuple[Image.Image | None, np.ndarray, float]  # to draw on, for the model, and how coloured it is

_BATCH_SIZE = 64
_SHOWN_PX = 2048  # several times what an overlay shows


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says of an image, a volume or a patient: `probabilities` float (C,), and why it may be no chest CT
    ("": it may be one). Of several slices, `num_slices`, they are the model's verdict (`PatientVerdict`).

    With an explanation, `image` is the image in grey, no larger than an overlay needs, and `heat` float (S, S) what
    spoke for the class; of a volume they are those of the slice that spoke most for it.
    """

    probabilities: np.ndarray
    doubt: str = ""
    num_slices: int = 1
    image: Image.Image | None = None
    heat: np.ndarray | None = None


Answered = tuple[Path, Answer | Exception]


def classify_files(
    files: Iterable[Path], classifier: Classifier, *, num_workers: int = 2, explainer: Explainer | None = None
) -> Iterator[Answered]:
    """Each file, an image or a volume, with its answer, or with what is wrong with it: see `classify_scans`."""
    return classify_scans(map(open_scan, files), classifier, num_workers=num_workers, explainer=explainer)


def classify_scans(
    scans: Iterable[Scan],
    classifier: Classifier,
    *,
    num_workers: int = 2,
    explainer: Explainer | None = None,
    per_slice: bool = False,
) -> Iterator[Answered]:
    """Each scan with its answer, or with what is wrong with it, in order and a batch at a time.

    A volume's answer is the verdict on the slices that the model's rule chooses; with `per_slice` each of these has an
    answer of its own, under its own name. Of an image that has been looked at only the model's pixels are kept, and
    with an explainer a small copy to draw on.
    """

    def look(scan: Scan) -> Seen | Exception | None:
        if scan.refusal is not None:
            return scan.refusal
        if scan.is_volume:
            return None
        try:
            grey, pixels, colour = see(scan.path, classifier.image_size, classifier.form)
        except (BadImageError, OSError) as error:
            return error
        return None if explainer is None else _shrink(grey), pixels, colour

    waiting = iter(scans)
    with ThreadPoolExecutor(num_workers) as threads:
        while batch := list(islice(waiting, _BATCH_SIZE)):
            looked = list(threads.map(look, batch))
            seen = [found for found in looked if isinstance(found, tuple)]
            answers = iter(_answer(seen, classifier, explainer) if seen else ())
            for scan, found in zip(batch, looked, strict=True):
                if found is None:
                    yield from _classify_volume(scan, classifier, threads, num_workers, explainer, per_slice)
                else:
                    yield scan.path, found if isinstance(found, Exception) else next(answers)


def classify_patients(
    patients: Iterable[tuple[Path, Sequence[Scan]]], classifier: Classifier, *, num_workers: int = 2
) -> Iterator[Answered]:
    """Each patient, by their name and scans, with one answer: the model's verdict on the slices of all their scans.

    A scan that cannot be used comes first, with what is wrong with it, and the answer is that of the others; of a
    patient without any other there is none.
    """
    for name, scans in patients:
        answers: list[Answer] = []
        for path, answer in classify_scans(scans, classifier, num_workers=num_workers, per_slice=True):
            if isinstance(answer, Exception):
                yield path, answer
            else:
                answers.append(answer)
        if answers:
            yield name, join_answers(answers, classifier)


def _classify_volume(
    scan: Scan,
    classifier: Classifier,
    threads: Executor,
    num_workers: int,
    explainer: Explainer | None,
    per_slice: bool,
) -> Iterator[Answered]:
    """The answers of one volume; those of its slices are made before the first is given, so that a volume that turns
    out bad half-way has one row, with the reason."""
    rule = SliceRule.parse(classifier.slices)
    slices: list[Answered] = []
    kept: list[np.ndarray] = []
    try:
        reader = read_scan(scan, classifier.image_size, classifier.form, rule, num_workers=num_workers)
        while part := list(islice(reader, _BATCH_SIZE)):
            seen = [(None if explainer is None else _draw(pixels), pixels, 0.0) for _, pixels in part]
            found = _answer(seen, classifier, explainer if per_slice else None)
            slices += [(path, answer) for (path, _), answer in zip(part, found, strict=True)]
            kept += [pixels for _, pixels in part] if explainer is not None and not per_slice else []
    except (BadImageError, OSError) as error:
        yield scan.path, error
        return
    if per_slice:
        yield from slices
        return
    answers = [answer for _, answer in slices if isinstance(answer, Answer)]
    whole = join_answers(answers, classifier)
    if explainer is not None:
        best = int(classifier.call(whole.probabilities[None])[0])
        place = int(np.argmax([answer.probabilities[best] for answer in answers]))
        (shown,) = _answer([(_draw(kept[place]), kept[place], 0.0)], classifier, explainer)
        whole = replace(whole, image=shown.image, heat=shown.heat)
    yield scan.path, whole


def join_answers(answers: Sequence[Answer], classifier: Classifier) -> Answer:
    """The answer on a volume or a patient by those on the slices: the model's verdict; doubted where more than half of
    them are."""
    doubts = Counter(answer.doubt for answer in answers if answer.doubt)
    doubt = ""
    if 2 * doubts.total() > len(answers):
        doubt = f"{doubts.total()} of {len(answers)} slices, most of them: {doubts.most_common(1)[0][0]}"
    return Answer(
        probabilities=classifier.verdict.of_one(
            np.stack([answer.probabilities for answer in answers]), classifier.positive
        ),
        doubt=doubt,
        num_slices=len(answers),
    )


def _answer(seen: Sequence[Seen], classifier: Classifier, explainer: Explainer | None) -> list[Answer]:
    import torch

    pixels = np.stack([pixels for _, pixels, _ in seen])
    with torch.inference_mode():
        probabilities = classifier.predict(torch.from_numpy(pixels)).numpy()
    doubts = [""] * len(seen)
    if classifier.likeness is not None:
        doubts = classifier.likeness.doubt(pixels, [colour for *_, colour in seen])
    if explainer is None:
        return [Answer(probabilities=p, doubt=d) for p, d in zip(probabilities, doubts, strict=True)]
    return [
        Answer(probabilities=p, doubt=doubt, image=grey, heat=heat)
        for p, doubt, (grey, *_), heat in zip(
            probabilities, doubts, seen, explainer.explain(torch.from_numpy(pixels)), strict=True
        )
    ]


def _draw(pixels: np.ndarray) -> Image.Image:
    """A slice's pixels (S, S) or (S, S, C) in grey: of several channels the middle one."""
    return Image.fromarray(pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., pixels.shape[2] // 2]))


def _shrink(image: Image.Image) -> Image.Image:
    """An image of at most about `_SHOWN_PX` a side: batches of large radiographs would fill the memory."""
    factor = -(-max(image.size) // _SHOWN_PX)
    return image.reduce(factor) if factor > 1 else image
