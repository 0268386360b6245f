"""Tables that are not UTF-8, and names with umlauts in whatever form table and disk have them."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from search.commands.inputs import list_patients
from tests.trainable.images.sets import fill, read
from trainable.images.manifest import Manifest
from trainable.images.table_text import decode_table

Form = Literal["NFC", "NFD"]
NAMES = [f"Bilder/Müller {number // 2}/Schnitt_ß{number}.png" for number in range(6)]
LABELS = ["gesund", "Lungenentzündung"] * 3
PATIENTS = ["Jörg", "Jörg", "Änne", "Änne", "Zoë", "Zoë"]
ROWS = [";".join(row) for row in zip(NAMES, LABELS, PATIENTS, strict=True)]
TABLE = "\r\n".join(["file;Diagnosis;Patient", *ROWS, ""])
LETTERS = "ü ß ö Ä ë"


def read_set(root: Path, content: bytes, *, form: Form = "NFC", name: str = "labels.csv") -> Manifest:
    """The set of the images above, named in a Unicode form, by a table of these bytes."""
    fill(root, *(unicodedata.normalize(form, image) for image in NAMES))
    (root / name).write_bytes(content)
    return read(root / name)


def check(manifest: Manifest, form: Form) -> None:
    assert manifest.classes == ("Lungenentzündung", "gesund")
    assert [item.patient for item in manifest.slices] == PATIENTS
    assert [item.name for item in manifest.slices] == [unicodedata.normalize(form, name) for name in NAMES]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_a_table_of_an_older_excel_is_read_and_its_encoding_told(encoding: str, form: Form, tmp_path: Path) -> None:
    manifest = read_set(tmp_path, TABLE.encode(encoding), form=form)
    check(manifest, form)
    note = "labels.csv is not UTF-8: it was read as Windows-1252 (cp1252), which gives the letters "
    assert [line[len(note) :].split() for line in manifest.found.notes if line.startswith(note)] == [LETTERS.split()]
    assert "semicolon-separated" in manifest.found.source


@pytest.mark.parametrize("of_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("of_table", ["NFC", "NFD"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_are_found_in_either_form_and_unicode_is_no_guess(
    encoding: str, of_table: Form, of_disk: Form, tmp_path: Path
) -> None:
    manifest = read_set(tmp_path, unicodedata.normalize(of_table, TABLE).encode(encoding), form=of_disk)
    check(manifest, of_disk)
    assert "1252" not in " ".join(manifest.found.notes)


def test_folders_of_another_machine_are_left_out_in_either_form(tmp_path: Path) -> None:
    check(read_set(tmp_path, TABLE.replace("Bilder/", "C:\\Ärzte\\Bilder\\").encode("cp1252"), form="NFD"), "NFD")
    check(read_set(tmp_path / "b", TABLE.replace("Bilder/", "/data/Bilder/").encode("cp1252"), form="NFD"), "NFD")


def test_a_list_without_a_header_is_read_so_too(tmp_path: Path) -> None:
    rows = "\n".join(ROWS).replace(";Jörg", "").replace(";Änne", "").replace(";Zoë", "")
    manifest = read_set(tmp_path, rows.encode("cp1252"), form="NFD", name="list.csv")
    assert manifest.classes == ("Lungenentzündung", "gesund")
    assert "list.csv is not UTF-8" in manifest.found.notes[0] and "no header" in manifest.found.notes[1]


@pytest.mark.parametrize(
    ("labels", "encoding"),
    [
        (("\u9633\u6027", "\u6b63\u5e38"), "gbk"),
        (("\u967d\u6027", "\u6b63\u5e38"), "big5"),
        (("\u043d\u043e\u0440\u043c\u0430", "\u043f\u043d\u0435\u0432\u043c\u043e\u043d\u0438\u044f"), "cp1251"),
    ],
)
def test_another_alphabet_is_not_read_as_western_letters(labels: tuple[str, str], encoding: str) -> None:
    text = "path,label\n" + "".join(f"{n}.png,{labels[n % 2]}\n" for n in range(4))
    with pytest.raises(
        ValueError, match=r"^m\.csv is neither UTF-8 nor Windows-1252 text.*\(line [23]\); save it as UTF"
    ):
        decode_table(Path("m.csv"), text.encode(encoding))


def test_a_row_of_odd_letters_in_a_western_table_is_no_other_alphabet() -> None:
    text = "path,label\n1.png,Müde\n2.png,Öde\n3.png,Gärten und Bäume\n4.png,äöüß\n"
    assert decode_table(Path("m.csv"), text.encode("cp1252"))[0] == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TABLE.encode() + b"x\xfc", r"is not UTF-8 text \(byte \d+, 0xfc in line 8\); save it as UTF-8"),
        (b"\xef\xbb\xbfpath,label\nm\xfc,a\n", r"is not UTF-8 text \(byte 15, 0xfc in line 2\)"),
        (b"path,label\nM\x81,a\n", r"is neither UTF-8 nor Windows-1252 text \(byte 12, 0x81 in line 2\)"),
        (b"path,label\nM\xfc\x02,a\n", r"is not UTF-8 text \(byte 13 is the control character 0x02\)"),
        (b"\xff\xfepath,label\n", r"is not UTF-16 text \(byte"),
        ("path,label\nMü,a\n".encode("utf-16-be"), r"is not UTF-8 text \(it holds zero bytes"),
    ],
)
def test_what_is_no_text_or_damaged_is_refused_by_file_and_byte(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^m\.csv {message}"):
        decode_table(Path("m.csv"), content)


def test_a_pattern_finds_a_patient_in_either_form(tmp_path: Path) -> None:
    names = [f"{label}/{person}/{number}.png" for number, label in enumerate("aabb") for person in ("Jörg", "Änne")]
    halves = [unicodedata.normalize("NFC" if number % 2 else "NFD", name) for number, name in enumerate(names)]
    root = fill(tmp_path, *halves)
    for form in ("NFC", "NFD"):
        pattern = unicodedata.normalize(form, "(Jörg|Änne)")
        assert {item.patient for item in read(root, patient_from=pattern).slices} == {"Jörg", "Änne"}
        assert len(list_patients([root], patient_from=pattern).patients) == 2


def test_classify_takes_patients_of_such_a_table(tmp_path: Path) -> None:
    root = fill(tmp_path, *(unicodedata.normalize("NFD", name) for name in ("x/Müller.png", "y/Süß.png")))
    (root / "who.csv").write_bytes("file;patient\nx/Müller.png;Ö\ny/Süß.png;Ö\n".encode("cp1252"))
    found = list_patients([root])
    assert len(found.patients) == 1
    assert "who.csv is not UTF-8" in found.lines[-1]
