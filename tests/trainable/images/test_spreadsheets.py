"""Tables as spreadsheets and other machines leave them: numbers, truth in several words, foreign paths, flags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.trainable.images.sets import fill, listed, read
from trainable.images.manifest import Manifest

NAMES = tuple(f"im{number}.png" for number in range(8))


def write(root: Path, columns: str, *values: Sequence[str], separator: str = ";") -> Path:
    """A table of the images and, for each further column, its values in turn."""
    fill(root, *(f"images/{name}" for name in NAMES))
    rows = [
        separator.join([name, *(column[number % len(column)] for column in values)])
        for number, name in enumerate(NAMES)
    ]
    (root / "labels.csv").write_text("\n".join([columns.replace(",", separator), *rows]))
    return root


def notes(manifest: Manifest) -> str:
    return " | ".join(manifest.found.notes)


@pytest.mark.parametrize(
    "words",
    [
        *[("1", "0", "True", "False"), ("positive", "negative", "pos", "negative"), ("Yes", "no", "1", "no")],
        *[("Y", "N", "yes", "no"), ("1", "0", "vrai", "faux"), ("positiv", "negativ", "pos", "neg")],
        ("\u662f", "\u5426", "1", "0"),
    ],
)
def test_truth_in_several_words_is_never_two_classes(words: Sequence[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seem to mean the same; give them one spelling"):
        read(write(tmp_path / "set", "image,label", words))


@pytest.mark.parametrize(
    "words",
    [("1", "0"), ("True", "False"), ("positive", "negative"), ("1", "0", "2"), ("N", "S", "V", "F"), ("T", "N")],
)
def test_truth_in_one_word_each_is_taken(words: Sequence[str], tmp_path: Path) -> None:
    assert set(read(write(tmp_path / "set", "image,label", words)).classes) == set(words)


def test_whole_numbers_with_a_decimal_comma_are_the_same_labels_and_patients(tmp_path: Path) -> None:
    found = read(write(tmp_path / "set", "image,label,patient", ("0,0", "1,0", "0", "1"), ("12,0", "12", "13", "14,0")))
    assert found.classes == ("0", "1")
    assert len({patient for _, patient, _ in listed(found).values()}) == 3
    assert "the labels 0, 0,0 are one class" in notes(found)


def test_patients_that_a_spreadsheet_has_rounded_are_refused(tmp_path: Path) -> None:
    for rounded in ("1.23E+09", "1,23E+09", "2e+16", "1.23457e11"):
        with pytest.raises(ValueError, match=r"row 3 has a patient as a spreadsheet rounds long numbers \(patient"):
            read(write(tmp_path / "set", "image,label,patient", ("a", "b"), ("17", rounded)))
    codes = ("1E5", "E+09", "7.5")
    assert len(read(write(tmp_path / "set", "image,label,patient", ("a", "b"), codes)).slices) == 8


@pytest.mark.parametrize("text", ["#NV", "n.a.", "\u2013", "unknown", "ANONYMOUS", "anonymized"])
def test_what_stands_for_nobody_is_no_patient_and_its_row_is_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"2 of 8 rows of .* have no patient \(row 5 has '{text}' in the column patient"
    ):
        read(write(tmp_path / "set", "image,label,patient", ("a", "b"), ("0", "1", "2", text)))


def test_patients_of_a_site_and_a_number_are_people_of_their_own(tmp_path: Path) -> None:
    found = read(write(tmp_path / "set", "image,label,patient", ("a", "b"), ("1.1", "1.10", "1.2", "1.20")))
    assert len({patient for _, patient, _ in listed(found).values()}) == 4


def test_a_letter_that_was_lost_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row 3 has a patient with a letter that was lost"):
        read(write(tmp_path / "set", "image,label,patient", ("a", "b"), ("Ann", "M\ufffdller")))


@pytest.mark.parametrize("column", ["Dataset_type", "train/test", "tvt", "Aufteilung"])
def test_a_column_of_words_for_splits_is_the_split_whatever_its_name(column: str, tmp_path: Path) -> None:
    given = ("train", "train", "Test", "val")
    found = read(write(tmp_path / "set", f"image,label,{column}", ("a", "b"), given))
    assert [split for *_, split in listed(found).values()] == ["train", "train", "test", "val"] * 2
    assert ("split", column) in found.found.columns
    with pytest.raises(ValueError, match=rf"the columns {column} and other, each of which holds words for splits"):
        read(write(tmp_path / "set", f"image,label,{column},other", ("a", "b"), given, given[::-1]))
    with pytest.raises(ValueError, match=r"2 of 8 rows of .* have no split \(row 3 has '' in the column"):
        read(write(tmp_path / "set", f"image,label,{column}", ("a", "b"), ("train", "", "test", "val")))


@pytest.mark.parametrize("values", [("val", "test"), ("train", "train"), ("train", "test", "7"), ("valid", "invalid")])
def test_a_column_of_other_words_is_no_split(values: Sequence[str], tmp_path: Path) -> None:
    found = read(write(tmp_path / "set", "image,label,state", ("a", "b"), values))
    assert {split for *_, split in listed(found).values()} == {None}


def test_classes_by_number_and_by_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"as many classes by number as by name \(0, 1, COVID, Normal\)"):
        read(write(tmp_path / "set", "image,label", ("0", "1", "Normal", "COVID")))
    assert len(read(write(tmp_path / "set", "image,label", ("0", "1", "2", "TKR"))).classes) == 4


def test_labels_that_are_words_for_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"words for splits in its column of labels \(type: test, train\)"):
        read(write(tmp_path / "set", "image,type", ("train", "train", "test", "test")))


@pytest.mark.parametrize(
    "column",
    [
        *["patient_uid", "Patienten-ID", "Patientennummer", "PatientID (anon)", "ID_patient", "N\u00b0 patient"],
        *["patient_hash", "study patient id", "subject.code", "\u60a3\u8005ID"],
    ],
)
def test_ids_of_people_are_known_however_the_column_is_called(column: str, tmp_path: Path) -> None:
    found = read(write(tmp_path / "set", f"image,label,{column}", ("a", "b"), ("p0", "p0", "p1", "p1")))
    assert ("patient", column) in found.found.columns


@pytest.mark.parametrize(
    "column", ["Patient Age", "patient_sex", "inpatient", "case study", "num_patients", "n_subjects"]
)
def test_facts_of_people_are_no_ids(column: str, tmp_path: Path) -> None:
    found = read(write(tmp_path / "set", f"image,label,{column}", ("a", "b"), ("60", "61")))
    assert {patient for _, patient, _ in listed(found).values()} == {None}


def test_a_flag_for_a_split_that_is_not_read_is_told(tmp_path: Path) -> None:
    for flag in ("is_test", "In Train", "TEST_SET", "validation"):
        found = read(write(tmp_path / "set", f"image,label,{flag}", ("a", "b"), ("0", "1")))
        assert f"the column {flag} may say which split a row is in, and is not read" in notes(found)
    assert "may say which split" not in notes(
        read(write(tmp_path / "set", "image,label,test_date", ("a",) * 7 + ("b",)))
    )


def test_a_column_of_studies_or_lesions_that_is_not_read_is_told(tmp_path: Path) -> None:
    for column in ("StudyInstanceUID", "study_id", "lesion_id", "Accession Number"):
        found = read(write(tmp_path / "set", f"image,label,{column}", ("a", "b"), ("1", "2")))
        assert f"the column {column} may say which slices are of one patient, and is not read" in notes(found)
    found = read(write(tmp_path / "set", "image,label,study_id,patient", ("a", "b"), ("1", "2"), ("p", "q")))
    assert "may say which slices" not in notes(found)


def test_holdout_is_the_test_split(tmp_path: Path) -> None:
    given = ("train", "Hold-out", "dev", "training set")
    found = read(write(tmp_path / "set", "image,label,split", ("a", "b"), given))
    assert [split for *_, split in listed(found).values()] == ["train", "test", "val", "train"] * 2


@pytest.mark.parametrize(
    "begin",
    ["my-set/images/", "/kaggle/input/some-set/images/", "/images/", "C:\\data\\my-set\\images\\", "../elsewhere/"],
)
def test_folders_of_another_machine_that_all_paths_begin_with_are_left_out(begin: str, tmp_path: Path) -> None:
    root = fill(tmp_path / "set", *(f"images/{name}" for name in NAMES))
    rows = [f"{begin}{name},{'ab'[number % 2]}" for number, name in enumerate(NAMES)]
    (root / "labels.csv").write_text("\n".join(["path,label", *rows]))
    if ".." in begin:
        with pytest.raises(ValueError, match=r"(names a missing file|leaves the manifest's folder)"):
            read(root)
        return
    found = read(root)
    assert len(found.slices) == 8 and "which is not there: it is left out" in notes(found)
    (root / "images" / NAMES[3]).unlink()
    with pytest.raises(ValueError, match=r"row 5 (names a missing file|leaves the manifest)"):
        read(root)


def test_paths_that_begin_differently_are_not_guessed_at(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", "a/1.png", "a/2.png")
    (root / "labels.csv").write_text("path,label\n/one/a/1.png,x\n/two/a/2.png,y\n")
    with pytest.raises(ValueError, match="leaves the manifest's folder"):
        read(root)


def test_a_split_that_is_not_there_is_not_left_out_of_paths(tmp_path: Path) -> None:
    """Images of the test split may have the names of those of train."""
    root = fill(tmp_path / "set", "1.png", "2.png")
    (root / "train.csv").write_text("path,label\n/data/train/1.png,x\n/data/train/2.png,y\n")
    with pytest.raises(ValueError, match="leaves the manifest's folder"):
        read(root / "train.csv")


def test_lists_of_splits_beside_class_folders_are_told(tmp_path: Path) -> None:
    root = fill(
        tmp_path / "set", *(f"{name}/{number}.png" for name in ("CT_COVID", "CT_NonCOVID") for number in (0, 1))
    )
    (root / "train_CT_COVID.txt").write_text("0.png\n1.png\n")
    (root / "notes.txt").write_text("nothing of interest\n")
    found = read(root)
    assert "the table train_CT_COVID.txt is not read" in notes(found) and "notes.txt" not in notes(found)


def test_a_table_that_cannot_be_read_is_told_with_its_reason(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", *(f"images/{name}" for name in NAMES))
    rows = [f"{name};{'ab'[number % 2]};München" for number, name in enumerate(NAMES)]
    (root / "labels.csv").write_bytes("\n".join(["image;label;Ort", *rows]).encode("cp437"))
    with pytest.raises(ValueError, match=r"the table beside was not read: .*labels.csv is neither UTF-8 nor Windows"):
        read(root)
    (root / "labels.csv").write_text("image,MEL,NV\nim0,1,0\n")
    with pytest.raises(ValueError, match=r"the table beside was not read: .*has the columns image, MEL, NV; it needs"):
        read(root)
