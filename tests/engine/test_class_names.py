"""Which texts are the same class, and the values of classes from texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from foreign import SIZE, bring_in, write_image
from heard import Heard
from test_foreign_folders import class_folders, photo

from plugin.engine.class_names import class_text, class_values, remarks_on


@pytest.mark.parametrize(
    "text", ["wald", " wald", "wald ", "\twald\n", "\xa0wald", "\u3000wald", "\ufeffwald", "wald\u200b", "wal\u00add"]
)
def test_texts_that_look_alike_are_one_class(text: str) -> None:
    assert class_text(text) == "wald"


def test_letters_with_accents_are_one_however_they_are_written_and_capitals_count() -> None:
    assert class_text("for\u00eat  dense") == class_text("fore\u0302t\xa0dense") == "for\u00eat dense"
    assert class_text("Wald") != class_text("wald")
    assert class_text(" \xa0\u200b ") == ""


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (("1", "2", "10", "20"), (1, 2, 10, 20)),
        (("-1", "+3", "0", "7.0"), (-1, 3, 0, 7)),
        (("01", "02", "10"), (1, 2, 10)),
        (("01", "1", "5"), (1, 2, 3)),  # different codes, it may be
        (("1", "1.0"), (1, 2)),
        (("3000000000", "7"), (1, 2)),
        (("1", "forest"), (1, 2)),
        (("1.5", "2"), (1, 2)),
        (("²", "1"), (2, 1)),
        (("9" * 5000, "1"), (2, 1)),
        (("water", "Water", "field"), (3, 1, 2)),
        ((), ()),
    ],
)
def test_whole_numbers_stay_and_other_texts_are_numbered_by_their_order(
    texts: tuple[str, ...], values: tuple[int, ...]
) -> None:
    assert class_values(texts) == dict(zip(texts, values))


def test_numbers_that_are_taken_do_not_stay() -> None:
    assert class_values(("1", "2"), taken={1}) == {"1": 2, "2": 3}
    assert class_values(("a", "b"), taken={1, 3}) == {"a": 2, "b": 4}


def test_what_a_user_may_not_expect_is_named() -> None:
    given = ["wald", " wald", "Wald", "See"]
    spaces, capitals = remarks_on(given, class_values(map(class_text, given)), "the field class")
    assert "white space or Unicode form are the same class: wald" in spaces
    assert "upper and lower case are different classes: Wald and wald" in capitals
    (codes,) = remarks_on(["01", "1"], class_values(["01", "1"]), "the field class")
    assert "integers in the field class cannot be used as class values" in codes and "01 1, 1 2" in codes
    assert remarks_on(["2", "10"], class_values(["2", "10"]), "the field class") == []


def test_folders_of_images_have_the_classes_that_a_field_would_have(tmp_path: Path) -> None:
    found = bring_in(class_folders(tmp_path / "numbers", ("1", "2", "10", "20")))
    assert found.info.classes.values.tolist() == [1, 2, 10, 20]
    heard = Heard()
    found = bring_in(class_folders(tmp_path / "texts", ("for\u00eat", "fore\u0302t", "Eau", "eau")), heard)
    assert found.info.classes.names == ["Eau", "eau", "for\u00eat"]
    assert found.shown.sum(axis=0).tolist() == [3, 3, 6]
    assert any("different classes: Eau and eau" in text for text in heard.logs)
    assert any("are the same class: for\u00eat" in text for text in heard.logs)


def test_names_in_annotations_have_the_classes_that_a_field_would_have(tmp_path: Path) -> None:
    folder = tmp_path / "voc"
    (folder / "Annotations").mkdir(parents=True)
    (folder / "ImageSets/Main").mkdir(parents=True)
    for number, name in enumerate(("1", " 2", "10\xa0")):
        write_image(folder / f"JPEGImages/{number}.jpg", photo(number), "JPEG")
        text = (
            f"<annotation><size><width>{SIZE}</width><height>{SIZE}</height></size>"
            f"<object><name>{name}</name></object></annotation>"
        )
        (folder / f"Annotations/{number}.xml").write_text(text, encoding="utf-8")
    assert bring_in(folder).info.classes.values.tolist() == [1, 2, 10]
