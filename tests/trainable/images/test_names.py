from __future__ import annotations

from pathlib import Path

import pytest

from trainable.images.names import (
    alike_key,
    form_key,
    is_missing,
    is_nobody,
    is_split_name,
    map_splits,
    merge_forms,
    printable,
    split_words,
    tidy,
    with_printable_errors,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Icon\r", "Icon\\r"),
        ("a\u202eb", "a\\u202eb"),
        ("\udcff", "\\udcff"),
        ("r\u00f6ntgen \u80ba", "r\u00f6ntgen \u80ba"),
    ],
)
def test_what_does_not_print_is_escaped(text: str, shown: str) -> None:
    assert printable(Path(text)) == shown and printable(shown) == shown


def test_errors_keep_their_type_and_get_one_printable_line() -> None:
    class OwnError(ValueError):
        pass

    @with_printable_errors
    def fail() -> None:
        raise OwnError("a\nb\x1b")

    with pytest.raises(OwnError) as caught:
        fail()
    assert str(caught.value) == "a\\nb\\x1b"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("01", "1."),
        ("+7", "7"),
        ("a\u00a0b", " a  b"),
        ("e\u0301", "\u00e9"),
        ("x\u2013y", "x-y"),
        ('"a"', "a"),
        ('="007"', "7"),
        ("'007", "7"),
        ("1.50", "1.5"),
        ("0,5", "0.5"),
        ("7,0", "7"),
        ("-0", "0"),
        ("1.000e+00", "1"),
        ("non\u2212covid", "non-covid"),
    ],
)
def test_values_that_differ_in_form_have_one_key(one: str, other: str) -> None:
    assert form_key(one) == form_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *[
            ("1", "11"),
            ("1.5", "15"),
            ("-1", "1"),
            ("a", "A"),
            ("1e5", "10e4"),
            ("1.2.840", "1.2.84"),
            ("'t Hart", "t Hart"),
        ],
        ("123456789012345678901234567890123", "123456789012345678901234567890124"),
    ],
)
def test_values_that_differ_in_more_have_two(one: str, other: str) -> None:
    assert form_key(one) != form_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *[("Patient_01", "patient 1"), ("P-7", "p7"), ("P 0012", "P12"), ("1.0", "01"), ("2.10", "2.10 ")],
        *[("Smith, John", "SMITH^JOHN"), ("smith,john", "Smith John")],
        ("CT-0", "\u0421\u0422-0"),  # in Cyrillic
    ],
)
def test_values_that_people_hold_for_the_same_are_alike(one: str, other: str) -> None:
    assert alike_key(one) == alike_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1-2", "12"),
        ("P1-2", "P12"),
        ("1.05", "1.5"),
        ("HER2+", "HER2"),
        ("P10", "P1"),
        ("1.10", "1.1"),
        ("2.100", "2.10"),
        ("1,10", "1,1"),
    ],
)
def test_values_that_people_hold_apart_are_not_alike(one: str, other: str) -> None:
    assert alike_key(one) != alike_key(other)


@pytest.mark.parametrize(
    "text", ["", "\u2013", "...", "n.a.", "k.A.", "#NV", "#N/D", "#REF!", "#DIV/0!", "#WERT!", "#NOM?", "#\u00a1REF!"]
)
def test_what_stands_for_no_value_is_missing_and_nobody(text: str) -> None:
    assert is_missing(text) and is_nobody(text)


@pytest.mark.parametrize("text", ["0", "+", "none", "unclear", "#1", "#P7", "a-", "N0"])
def test_what_may_be_a_value_is_not_missing(text: str) -> None:
    assert not is_missing(text)


def test_a_word_for_no_person_is_nobody_and_a_code_is_somebody() -> None:
    assert all(map(is_nobody, ["ANONYMOUS", "anonymized", "unknown", "Unbekannt", "None", "no id"]))
    assert not any(map(is_nobody, ["0", "x", "anon-7", "Unknown 3", "id1"]))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("trainA", ["train", "A"]),
        ("CT_COVID-19", ["CT", "COVID", "19"]),
        ("benign (1)_mask", ["benign", "1", "mask"]),
        ("ImFr\u00fchlingNr7", ["Im", "Fr\u00fchling", "Nr", "7"]),
    ],
)
def test_words_and_numbers_of_a_name(name: str, words: list[str]) -> None:
    assert split_words(name) == words


def test_the_shortest_form_is_the_name_and_unlike_forms_are_listed() -> None:
    names, merged = merge_forms(["1.0", "1", " b", "b"])
    assert names == {"1.0": "1", "1": "1", " b": "b", "b": "b"} and merged == [("1", "1.0")]
    assert tidy("\ufeffx\u200b \t y ") == "x y"


@pytest.mark.parametrize(
    "name", ["testicular", "value", "trainer", "contest", "set", "data", "latest", "validated", "developed"]
)
def test_words_that_only_hold_a_splits_name_are_none(name: str) -> None:
    assert not is_split_name(name) and map_splits([name, "train"]) == {"train": "train"}


@pytest.mark.parametrize(
    ("others", "split"),
    [(["train"], "test"), (["train", "val"], "test"), (["train", "test"], "val"), (["train", "val", "test"], "test")],
)
def test_eval_is_val_only_beside_a_test_without_a_val(others: list[str], split: str) -> None:
    assert map_splits([*others, "Eval_Set"])["Eval_Set"] == split
