"""The audit as one page and one JSON file: self-contained HTML, nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from trainable.files import write_atomically
from trainable.images.audit_data import DataAudit
from trainable.images.audit_findings import ShownPair
from trainable.images.audit_style import STYLE
from trainable.images.decode import BadImageError, decode_grey
from trainable.images.findings import Finding, Severity
from trainable.images.shortcuts import WARN_ABOVE, Shortcut

MAX_PAIRS = 24
_SIDE = 180  # pixels of a shown slice
_MAX_VALUES = 4  # of a source that are told apart; the rest are "others"
_SPLIT_ORDER = ("train", "val", "test")
_WORDS = {Severity.ERROR: "Error", Severity.WARNING: "Warning", Severity.NOTE: "Note"}
_VERDICTS = {
    0: ("clean", "Nothing was found that makes results doubtful."),
    3: ("warning", "Results on this set would be doubtful: read the warnings first."),
    4: ("error", "This set has errors: fix them before anything is trained."),
}


def write_audit(folder: Path, audit: DataAudit) -> tuple[Path, Path]:
    """Write `audit.html` and `audit.json` into `folder` and return their paths; each is whole or absent.

    The page shows slices of up to 24 pairs, so it is as confidential as the set. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page, facts = folder / "audit.html", folder / "audit.json"
    _write(page, render_audit(audit))
    _write(facts, json.dumps(audit.to_dict(), indent=1, ensure_ascii=False) + "\n")
    return page, facts


def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode(errors="backslashreplace"))


def render_audit(audit: DataAudit) -> str:
    """The page as HTML; slices of the pairs that are shown are read from their files."""
    status, verdict = _VERDICTS[audit.exit_code]
    patients = "unknown" if audit.num_patients is None else f"{audit.num_patients:,}"
    tiles = [
        ("slices", f"{audit.num_slices:,}"),
        ("patients", patients),
        ("classes", str(len(audit.counts))),
        *((f"{_WORDS[kind].lower()}s", str(_count(audit.findings, kind))) for kind in reversed(Severity)),
    ]
    sections = [
        _section("Findings", _findings(audit.findings), "The worst first, each with what to do."),
        _section("Classes and splits", _counts(audit), "Slices, and below them patients or groups, of each class."),
        _section("Shortcuts", _shortcuts(audit.shortcuts), _SHORTCUT_HELP),
        _section("Near-duplicates", _pairs(audit.pairs), "Two files that show one slice, however it was changed."),
        _section("Sources", _sources(audit.sources), "Classes should look alike here: what differs can be learnt."),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Audit of {escape(audit.name)}</title><style>{STYLE}</style></head><body><main>"
        f'<header><p class="over">Data audit</p><h1>{escape(audit.name)}</h1>'
        f'<p class="verdict {status}">{verdict}</p></header>'
        f'<div class="tiles">{"".join(_tile(name, value) for name, value in tiles)}</div>'
        f"{''.join(sections)}<footer>Written by <code>ctsearch audit</code>. It shows images of the set: keep it where "
        "the set may be kept.</footer></main></body></html>\n"
    )


_SHORTCUT_HELP = (
    "How well each kind of feature alone tells the classes apart, on patients that the simple model has not seen: "
    f"0.5 is chance, the line marks {WARN_ABOVE}, the faint band the 95 % interval."
)


def _section(title: str, body: str, help_text: str) -> str:
    return f'<section><h2>{title}</h2><p class="help">{help_text}</p>{body}</section>'


def _tile(name: str, value: str) -> str:
    kind = name.rstrip("s") if name in ("errors", "warnings") and value != "0" else ""
    return f'<div class="tile {kind}"><b>{escape(value)}</b><span>{escape(name)}</span></div>'


def _count(findings: Iterable[Finding], kind: Severity) -> int:
    return sum(finding.severity is kind for finding in findings)


def _findings(findings: Sequence[Finding]) -> str:
    return "".join(_finding(finding) for finding in findings) or '<p class="empty">No findings.</p>'


def _finding(finding: Finding) -> str:
    rest = finding.count - len(finding.names)
    names = "".join(f"<li>{escape(name)}</li>" for name in finding.names) + (
        f"<li>and {rest} more</li>" if rest > 0 else ""
    )
    shown = f"<details><summary>which ones</summary><ul>{names}</ul></details>" if finding.names else ""
    kind = finding.severity.name.lower()
    title = escape(finding.title[:1].upper() + finding.title[1:])
    return (
        f'<article class="finding {kind}"><span class="badge">{_WORDS[finding.severity]}</span><div>'
        f"<h3>{title}</h3><p>{escape(finding.advice[:1].upper() + finding.advice[1:])}.</p>{shown}</div></article>"
    )


def _counts(audit: DataAudit) -> str:
    found = {split for splits in audit.counts.values() for split in splits}
    splits = [split for split in _SPLIT_ORDER if split in found] + sorted(found - {*_SPLIT_ORDER})
    most = max(count for counts in audit.counts.values() for count in counts.values())
    word = "groups" if audit.num_patients is None else "patients"
    rows = []
    for label, counts in audit.counts.items():
        groups = audit.num_groups[label]
        cells = "".join(
            f'<td><div class="bar"><i style="width:{100 * counts.get(split, 0) / most:.1f}%"></i></div>'
            f"<b>{counts.get(split, 0):,}</b> <small>{groups.get(split, 0):,} {word}</small></td>"
            for split in splits
        )
        rows.append(f"<tr><th>{escape(label)}</th>{cells}<td><b>{sum(counts.values()):,}</b></td></tr>")
    head = "".join(f"<th>{escape(split)}</th>" for split in splits)
    return f'<div class="scroll"><table><tr><th>class</th>{head}<th>all</th></tr>{"".join(rows)}</table></div>'


def _shortcuts(shortcuts: Sequence[Shortcut]) -> str:
    if not shortcuts:
        return '<p class="empty">Not measured: a class has too few patients or groups.</p>'
    head = "<tr><th>feature</th><th>AUC</th><th></th><th>best by themselves</th><th>a model sees it</th></tr>"
    return f'<div class="scroll"><table>{head}{"".join(map(_shortcut, shortcuts))}</table></div>'


def _shortcut(shortcut: Shortcut) -> str:
    def place(auc: float) -> float:
        return 100 * min(max((auc - 0.4) / 0.6, 0), 1)

    low, high = place(shortcut.auc - shortcut.margin), place(shortcut.auc + shortcut.margin)
    gauge = (
        f'<div class="gauge"><u style="left:{low:.1f}%;width:{high - low:.1f}%"></u>'
        f'<s style="left:{place(WARN_ABOVE):.1f}%"></s><i style="left:{place(shortcut.auc):.1f}%"></i></div>'
    )
    best = "<br>".join(f"{escape(name)} <small>{auc:.2f}</small>" for name, auc in shortcut.features)
    return (
        f'<tr class="{"warned" if shortcut.is_warning else ""}"><th>{escape(shortcut.group)}</th>'
        f"<td><b>{shortcut.auc:.2f}</b></td><td>{gauge}</td><td>{best}</td>"
        f"<td>{'yes' if shortcut.seen else 'no'}</td></tr>"
    )


def _pairs(pairs: Sequence[ShownPair]) -> str:
    if not pairs:
        return '<p class="empty">No near-duplicates.</p>'
    shown = "".join(map(_pair, pairs[:MAX_PAIRS]))
    rest = f'<p class="help">and {len(pairs) - MAX_PAIRS} more pairs</p>' if len(pairs) > MAX_PAIRS else ""
    return f'<div class="pairs">{shown}</div>{rest}'


def _pair(shown: ShownPair) -> str:
    pair = shown.pair
    tags = [("across splits", pair.across_splits), ("across classes", pair.across_labels)]
    marks = "".join(f'<span class="tag">{name}</span>' for name, yes in tags if yes)
    sides = "".join(
        f"<figure>{_image(path)}<figcaption><b>{escape(label)}</b> · {escape(split)}<br>"
        f'<span title="{escape(name)}">{escape(_shorten(name))}</span></figcaption></figure>'
        for path, name, label, split in zip(
            shown.paths, (pair.first, pair.second), pair.labels, pair.splits, strict=True
        )
    )
    crossing = "crossing" if marks else ""
    return f'<div class="pair {crossing}"><p>similarity {pair.similarity:.2f} {marks}</p><div>{sides}</div></div>'


def _shorten(name: str) -> str:
    last = name.rsplit("/", 1)[-1]
    return last if len(last) <= 28 else f"{last[:12]}…{last[-15:]}"


def _image(path: Path) -> str:
    try:
        grey = decode_grey(path)
    except (BadImageError, OSError):
        return '<div class="lost">cannot be read</div>'
    grey.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    grey.save(file, "PNG", optimize=True)
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _sources(sources: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    blocks = []
    for kind, classes in sources.items():
        totals: dict[str, int] = {}
        for values in classes.values():
            for value, count in values.items():
                totals[value] = totals.get(value, 0) + count
        common = sorted(totals, key=lambda value: -totals[value])[:_MAX_VALUES]
        rows = "".join(_stack(label, values, common) for label, values in classes.items())
        names = [*common, *(["others"] if len(totals) > len(common) else [])]
        legend = "".join(f'<span><i class="c{at}"></i>{escape(value)}</span>' for at, value in enumerate(names))
        blocks.append(f'<div class="source"><h3>{escape(kind)}</h3>{rows}<p class="legend">{legend}</p></div>')
    return f'<div class="sources">{"".join(blocks)}</div>'


def _stack(label: str, values: Mapping[str, int], common: Sequence[str]) -> str:
    total = sum(values.values())
    shares = [values.get(value, 0) for value in common]
    shares.append(total - sum(shares))
    parts = "".join(
        f'<i class="c{at}" style="width:{100 * share / total:.2f}%" title="{share}"></i>'
        for at, share in enumerate(shares)
    )
    return f'<div class="stacked"><span>{escape(label)}</span><div>{parts}</div></div>'
