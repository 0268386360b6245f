"""`ctsearch audit` and `--explain-data`: what a data set is and what is wrong with it, before anything is trained."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.core.data_options import DataOptions
from search.core.options import list_options, read_keywords

if TYPE_CHECKING:
    from search.core.config import SearchConfig
    from trainable.images.audit_data import DataAudit


def audit(
    data: Path,
    *,
    home: Path,
    patient_from: str | None = None,
    positive: str | None = None,
    out: Path | None = None,
    **options: Any,
) -> DataAudit:
    """Audit a data set as a search would take it; with `out`, a page and a JSON file are written there.

    `options` are those of `DataOptions` that say how data is read: slices, window, colour, neighbours. Archives are
    unpacked into the cache of `home`. Raises ValueError in the user's words, and OSError.
    """
    from trainable.images.audit_data import audit_data
    from trainable.images.audit_page import write_audit

    given = {"data": data, "patient_from": patient_from, "positive": positive, **options}
    chosen = DataOptions(**read_keywords(given, dict(list_options(DataOptions))))
    found = audit_data(
        data,
        cache_dir=home / "cache",
        patient_from=chosen.patient_from,
        positive=chosen.positive,
        slice_rule=chosen.slice_rule,
        form=chosen.form,
        num_workers=os.cpu_count() or 1,
    )
    if out is not None:
        write_audit(out, found)
    return found


def explain(config: SearchConfig) -> int:
    """Print how the data of a search would be read, with its first slices; nothing is decoded. Returns 0."""
    from trainable.images.explain_data import explain_data

    if config.data is None:
        raise ValueError("--explain-data explains what --data names; give that too")
    lines = explain_data(
        config.data,
        unpack_into=config.home / "cache" / "unpacked",
        patient_from=config.patient_from,
        positive=config.positive,
        skip_bad_images=config.skip_bad_images,
        slice_rule=config.slice_rule,
        num_workers=os.cpu_count() or 1,
    )
    print("\n".join(lines))
    return 0
