"""A model on a labelled set that it was not searched on: its figures there, and how the set differs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.champion.sealed import SealedFigures, measure_figures, measure_patients

if TYPE_CHECKING:
    from trainable.classifier import Classifier
    from trainable.images.labelled_set import LabelledSet

FEW_LIKE_TRAINING = 0.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExternalScore:
    """The figures of one set, by slice and, where patients have several, by patient.

    `unlike_share` of its slices are unlike the images that the model was trained on (None where it does not know
    those); `about` describes the set.
    """

    name: str
    about: str
    figures: SealedFigures
    of_patients: SealedFigures | None
    unlike_share: float | None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the figures must know."""
        found = list(self.notes)
        if self.skipped:
            found.append(f"{len(self.skipped)} files could not be used, such as {self.skipped[0]}")
        if self.unlike_share is not None and self.unlike_share > FEW_LIKE_TRAINING:
            found.append(f"{self.unlike_share:.0%} of the slices are unlike the images that the model was trained on")
        return tuple(found)

    def to_metrics(self, prefix: str) -> dict[str, float]:
        """All figures, flat, for MLflow and JSON: PREFIX_auc, PREFIX_patients_auc, ..."""
        flat = self.figures.to_metrics(prefix)
        if self.of_patients is not None:
            flat |= self.of_patients.to_metrics(f"{prefix}_patients")
        if self.unlike_share is not None:
            flat[f"{prefix}_unlike_training"] = self.unlike_share
        return flat

    def lines(self, names: Sequence[str]) -> list[str]:
        """For a terminal: the figures in `names` with their intervals, by slice and by patient."""
        rows = [(self.name[:12], self.figures, "")]
        if self.of_patients is not None:
            rows.append(("", self.of_patients, f", by {self.figures.each}"))
        shown = []
        for title, figures, whose in rows:
            found = [f"{name} {figures.estimates[name]}" for name in names if name in figures.estimates]
            shown.append(f"{title:<13}{', '.join(found)}{whose}")
        shown.append(f"             {self.about}; 95 % intervals by {self.figures.describe_intervals(names)}")
        return [*shown, *(f"Warning      {warning}" for warning in self.warnings)]

    def to_record(self) -> dict[str, Any]:
        return {"name": self.name, "about": self.about, "warnings": list(self.warnings), **self.to_metrics("test")}


def score_external(classifier: Classifier, found: LabelledSet, name: str, *, seed: int = 0) -> ExternalScore:
    """Score a model once on a set."""
    import numpy as np

    from trainable.classifier import predict_pixels

    probabilities = predict_pixels(classifier, found.pixels)
    given = found.labels, probabilities, found.groups, classifier.positive
    figures = measure_figures(*given, threshold=classifier.threshold, group_name=found.group_name, seed=seed)
    unlike = None
    if classifier.likeness is not None:
        doubts = classifier.likeness.doubt(np.asarray(found.pixels), [0.0] * len(found.labels))
        unlike = float(np.mean([bool(doubt) for doubt in doubts]))
    notes = list(found.left_out)
    if missing := [each for index, each in enumerate(found.classes) if not (found.labels == index).any()]:
        notes.append(f"the set has no {', '.join(missing)}: figures that need one cannot be given")
    return ExternalScore(
        name=name,
        about=found.describe(),
        figures=figures,
        of_patients=measure_patients(*given, figures=figures, verdict=classifier.verdict),
        unlike_share=unlike,
        skipped=found.skipped,
        notes=tuple(notes),
    )


def read_and_score(
    classifier: Classifier, data: Path, name: str, *, cache_dir: Path, **options: Any
) -> tuple[ExternalScore, list[str]]:
    """Read a set as the model takes images, and score it; the second are the lines of how it was read.

    `options` are those of `read_labelled_set`. Raises as that does.
    """
    from trainable.images.labelled_set import read_labelled_set
    from trainable.images.slice_rule import SliceRule

    found = read_labelled_set(
        data,
        classes=classifier.classes,
        image_size=classifier.image_size,
        cache_dir=cache_dir,
        form=classifier.form,
        slice_rule=SliceRule.parse(classifier.slices),
        **options,
    )
    return score_external(classifier, found, name), found.reading.lines()


def score_all(sets: Mapping[str, str], models: Path, *, cache_dir: Path, num_workers: int) -> list[ExternalScore]:
    """The champion saved in `models` on each of the further sets, by name; one that cannot be read is passed over, with
    a warning: the champion stands without it."""
    from trainable.classifier import load_registered

    scores = []
    classifier = load_registered(str(models / "pixels")) if sets else None
    for name, data in sets.items():
        assert classifier is not None
        try:
            path = Path(data).expanduser()
            options = {"num_workers": num_workers, "skip_bad_images": True}
            scores.append(read_and_score(classifier, path, name, cache_dir=cache_dir, **options)[0])
        except (ValueError, OSError) as error:
            _log.warning("the champion was not scored on --external %s: %s", name, error)
    return scores
