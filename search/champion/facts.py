"""What is stored with a champion's models, and what the registry shows beside a version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.core.describe import name_trials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search.champion.crown import Finish
    from search.champion.model import ChampionModel
    from search.champion.sealed import SealedScore
    from trainable.export import ModelFacts


def describe_model(built: ChampionModel, finish: Finish, score: SealedScore, notes: Sequence[str]) -> ModelFacts:
    """What is stored with the models, and what the registry shows beside a version."""
    from trainable.export import ModelFacts

    data, metric, best = finish.task.data, finish.task.settings.metric, built.best
    members = name_trials(built.numbers)
    if built.num_folds:
        lines = [
            f"The mean of {members} of search {finish.folder.name}, each in {built.num_folds} folds of train and val: "
            f"{metric} {built.value:.4f} on slices of patients not seen; the best of them in the search, trial "
            f"{best.entry.number}, {best.value:.4f}."
        ]
    elif len(built.numbers) == 1:
        lines = [
            f"T{members[1:]} of search {finish.folder.name}: validation {metric} {built.value:.4f} at epoch "
            f"{best.epoch}."
        ]
    else:
        lines = [
            f"The mean of {members} of search {finish.folder.name}: validation {metric} {built.value:.4f}; the best of "
            f"them alone, trial {best.entry.number}, {best.value:.4f}."
        ]
    if (test := score.figures) is not None:
        auc = test.estimates["auc"]
        lines.append(
            f"Sealed test, {test.num_slices} slices of {test.num_groups} {test.group_name}: AUC {auc} (95 % interval "
            f"by {test.describe_intervals(['auc'])}), accuracy {test.estimates['accuracy']}."
        )
        lines.append(f"{test.can_tell}." if test.can_tell else "")
    return ModelFacts(
        name=finish.model_name,
        classes=data.classes,
        positive=data.positive,
        image_size=data.image_size,
        form=data.form,
        slices=data.slices,
        data_hash=data.data_hash,
        search=finish.folder.name,
        trial=best.entry.number,
        members=built.numbers,
        num_folds=built.num_folds,
        temperature=built.model.calibration.temperature,
        operating_point=built.point.to_dict() if built.point else None,
        patients=built.model.verdict.to_dict(),
        metric=metric,
        value=built.value,
        warnings=tuple(notes),
        test_metrics=score.to_metrics(),
        description="\n\n".join([*filter(None, lines), *(f"Warning: {note}." for note in notes)]),
    )
