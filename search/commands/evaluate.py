"""`ctsearch evaluate`: a registered model on another labelled set, with figures that respect its patients."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from search.champion.conclude import SHOWN
from search.champion.external import ExternalScore, read_and_score
from search.commands.chosen_model import load


def evaluate(
    model: str | None,
    data: Path,
    *,
    home: Path,
    tracking_uri: str | None = None,
    patient_from: str | None = None,
    skip_bad_images: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> ExternalScore:
    """Score a model (as `classify` takes it) on all slices of a set, whatever their splits.

    `patient_from` and `skip_bad_images` are the options of a search; `say` is called with how the set was read. Raises
    ValueError in the user's words.
    """
    with ExitStack() as stack:
        classifier = load(model, home, tracking_uri, stack)
        say(f"Model        {classifier.label}")
        score, reading = read_and_score(
            classifier,
            data,
            data.name,
            cache_dir=home / "cache",
            patient_from=patient_from,
            skip_bad_images=skip_bad_images,
            num_workers=os.cpu_count() or 1,
        )
    for line in reading:
        say(line)
    return score


def show_evaluation(score: ExternalScore, file: Path | None) -> None:
    """Print the figures, and write them as JSON."""
    print("\n".join(score.lines(SHOWN)))
    if score.figures.can_tell:
        print(f"             {score.figures.can_tell}")
    if file is not None:
        file.write_text(json.dumps(score.to_record(), indent=2) + "\n")
        print(f"Written      {file}")
