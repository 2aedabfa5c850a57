"""Names and values of classes: styles, value maps, value relations, and the user's class table."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import synthetic
from conftest import Listener, polygon_layer, said
from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsEditorWidgetSetup,
    QgsFeature,
    QgsFillSymbol,
    QgsProcessingException,
    QgsProject,
    QgsRendererCategory,
    QgsRuleBasedRenderer,
    QgsVectorLayer,
)

FOUR = [("oak", 0, 0, 80, 256), ("pine", 80, 0, 160, 256), ("lake", 160, 0, 240, 256), ("cloud", 240, 0, 320, 256)]


@pytest.fixture
def export(run, scene, tmp_path):
    """Exports label features of the scene's ground; gives {class value: (name, colour)} and {class value: pixels}."""

    def export(labels, listener=None, **parameters):
        found = run("exportchips", listener or Listener(), INPUT=[scene[0]], CHIP_SIZE=64,
                    OUTPUT=str(tmp_path / "chips"), LABELS=labels, **parameters)  # fmt: skip
        info = json.loads((Path(found["OUTPUT"]) / "dataset.json").read_text())
        sums = np.sum(list(info["pixel_counts"].values()), axis=0)
        names = {row["value"]: (row["name"], row["color"]) for row in info["classes"]}
        return names, {row["value"]: int(count) for row, count in zip(info["classes"], sums)}

    return export


def test_a_class_table_merges_drops_names_and_colours(export, tmp_path):
    listener = Listener()
    table = ["oak", 7, "forest", "#116622", "pine", "7", "", "", "lake", 3, "water", "blue", "cloud", "", "", ""]
    names, pixels = export(polygon_layer(FOUR), listener, CLASS_FIELD="class", CLASS_TABLE=table)
    assert names == {3: ("water", "#0000ff"), 7: ("forest", "#116622")}
    assert pixels == {3: 80 * 256, 7: 160 * 256}
    assert "1 feature left out, because Class table (CLASS_TABLE) drops their value." in listener.infos


def test_texts_that_a_class_table_does_not_list_get_the_next_free_numbers(export):
    listener = Listener()
    names, _ = export(polygon_layer(FOUR), listener, CLASS_FIELD="class", CLASS_TABLE=[["lake", 2, "water", None]])
    assert {value: name for value, (name, _) in names.items()} == {1: "cloud", 2: "water", 3: "oak", 4: "pine"}
    words = "Values of class that Class table (CLASS_TABLE) does not list were numbered: cloud 1, oak 3, pine 4."
    assert words in listener.infos


def test_merged_classes_without_a_name_are_called_by_their_parts(export):
    names, _ = export(polygon_layer(FOUR), CLASS_FIELD="class", CLASS_TABLE=["oak", 1, "", "", "pine", 1, "", ""])
    assert [name for name, _ in names.values()] == ["oak, pine", "cloud", "lake"]


@pytest.mark.parametrize("kind", ["integer", "double"])
def test_numbers_that_a_class_table_does_not_list_stay(export, kind):
    layer = polygon_layer([(1, 0, 0, 100, 256), (2, 100, 0, 200, 256), (3, 200, 0, 320, 256)], kind=kind)
    names, pixels = export(layer, CLASS_FIELD="class", CLASS_TABLE=[2, 30, "wood", "", 3.0, 30, "", ""])
    assert {value: name for value, (name, _) in names.items()} == {1: "class 1", 30: "wood"}
    assert pixels == {1: 100 * 256, 30: 220 * 256}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.csv", "value,class,name,color\noak,1,forest,#116622\npine,1,,\nlake,2,water,\ncloud,,,\n"),
        ("classes.csv", "\ufeffname; value; class\r\nforest; oak; 1\r\n; pine; 1\r\nwater; lake; 2\r\n; cloud;\r\n"),
        ("classes.json", '[{"value": "oak", "class": 1, "name": "forest"}, {"value": "pine", "class": 1}, '
         '{"value": "lake", "class": 2, "name": "water"}, {"value": "cloud", "class": null}]'),
    ],
)  # fmt: skip
def test_a_class_table_may_be_a_file(export, tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    names, pixels = export(polygon_layer(FOUR), CLASS_FIELD="class", CLASS_FILE=str(tmp_path / name))
    assert {value: name for value, (name, _) in names.items()} == {1: "forest", 2: "water"}
    assert pixels == {1: 160 * 256, 2: 80 * 256}


def test_a_class_table_holds_for_label_rasters_too(run, scene, tmp_path):
    table = [1, 10, "", "", 2, 20, "green", "#00ff00", 3, 20, "", ""]
    found = run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[scene[1]], CHIP_SIZE=64, CLASS_TABLE=table,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    info = json.loads((Path(found["OUTPUT"]) / "dataset.json").read_text())
    assert [(row["value"], row["name"]) for row in info["classes"]] == [(10, "water"), (20, "green")]
    assert info["classes"][1]["color"] == "#00ff00"
    mask = synthetic.class_mask()
    counts = np.sum(list(info["pixel_counts"].values()), axis=0).tolist()
    assert counts == [int((mask == 1).sum()), int((mask >= 2).sum())]


def test_classes_of_label_rasters_can_be_dropped(run, scene, tmp_path):
    found = run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[scene[1]], CHIP_SIZE=64,
                CLASS_TABLE=[1, None, None, None], OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    info = json.loads((Path(found["OUTPUT"]) / "dataset.json").read_text())
    assert [row["value"] for row in info["classes"]] == [2, 3]


def test_merged_classes_of_label_rasters_are_called_by_their_parts(run, scene, tmp_path):
    found = run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[scene[1]], CHIP_SIZE=64,
                CLASS_TABLE=[3, 2, "", ""], OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    info = json.loads((Path(found["OUTPUT"]) / "dataset.json").read_text())
    assert [(row["value"], row["name"]) for row in info["classes"]] == [(1, "water"), (2, "field, forest")]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (["oak", 1.5, "", ""], 'Line 1 of CLASS_TABLE has the class value "1.5"'),
        (["oak", "wood", "", ""], 'Line 1 of CLASS_TABLE has the class value "wood"'),
        (["oak", 1, "", "reddish"], 'Line 1 of CLASS_TABLE has the colour "reddish"'),
        (["oak", 1, "", "", "oak", 2, "", ""], 'CLASS_TABLE lists the value "oak" twice'),
        (["", 1, "", ""], "Line 1 of CLASS_TABLE has no value"),
        ([["oak", 1]], "Line 1 of CLASS_TABLE has 2 cells"),
    ],
)
def test_a_wrong_class_table_is_refused_in_words(provider, export, table, words):
    with pytest.raises(QgsProcessingException, match=re.escape(said(provider, "exportchips", words))):
        export(polygon_layer(FOUR), CLASS_FIELD="class", CLASS_TABLE=table)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (["oak", 1, "", ""], 'CLASS_TABLE lists "oak", but the layer holds numbers'),
        ([1, 5, "", "", "1.0", 6, "", ""], "CLASS_TABLE lists the value 1 twice"),
    ],
)
def test_a_class_table_must_fit_a_field_of_numbers(provider, export, table, words):
    layer = polygon_layer([(1, 0, 0, 320, 128), (2, 0, 128, 320, 256)], kind="integer")
    with pytest.raises(QgsProcessingException, match=re.escape(said(provider, "exportchips", words))):
        export(layer, CLASS_FIELD="class", CLASS_TABLE=table)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.csv", None, "cannot be read"),
        ("table.csv", "code,name\n1,a\n", 'the column "value" is missing'),
        ("table.json", '{"value": 1}', "it is not a list of objects"),
        ("table.json", "[1", "is not a class table"),
        ("table.json", '[{"value": 1}]', 'the key "class" is missing'),
        ("table.csv", "value,class\noak,x\n", 'has the class value "x"'),
    ],
)
def test_a_wrong_file_of_classes_is_refused_in_words(export, tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(QgsProcessingException, match=words):
        export(polygon_layer(FOUR), CLASS_FIELD="class", CLASS_FILE=str(tmp_path / name))


@pytest.mark.parametrize("form", ["dictionary", "list"])
def test_names_come_from_a_value_map(export, form):
    layer = polygon_layer([(1, 0, 0, 160, 256), (2, 160, 0, 320, 256)], kind="integer")
    pairs = {"Wald": 1, "See": "2"} if form == "dictionary" else [{"Wald": "1"}, {"See": "2"}]
    layer.setEditorWidgetSetup(0, QgsEditorWidgetSetup("ValueMap", {"map": pairs}))
    names, _ = export(layer, CLASS_FIELD="class")
    assert {value: name for value, (name, _) in names.items()} == {1: "Wald", 2: "See"}


def test_names_come_from_a_value_relation(export):
    table = QgsVectorLayer("NoGeometry?field=code:string&field=meaning:string", "codes", "memory")
    rows = []
    for code, meaning in (("oak", "Eiche"), ("pine", "Kiefer"), ("lake", "See"), ("cloud", None), ("other", "?")):
        rows.append(QgsFeature(table.fields()))
        rows[-1].setAttributes([code, meaning])
    table.dataProvider().addFeatures(rows)
    QgsProject.instance().addMapLayer(table, False)
    layer = polygon_layer(FOUR)
    config = {"Layer": table.id(), "Key": "code", "Value": "meaning"}
    layer.setEditorWidgetSetup(0, QgsEditorWidgetSetup("ValueRelation", config))
    try:
        names, _ = export(layer, CLASS_FIELD="class")
    finally:
        QgsProject.instance().removeMapLayer(table.id())
    assert [name for name, _ in names.values()] == ["cloud", "See", "Eiche", "Kiefer"]


def test_a_value_relation_to_a_table_that_is_not_there_names_nothing(export):
    layer = polygon_layer(FOUR)
    config = {"Layer": "gone", "Key": "code", "Value": "meaning"}
    layer.setEditorWidgetSetup(0, QgsEditorWidgetSetup("ValueRelation", config))
    names, _ = export(layer, CLASS_FIELD="class")
    assert [name for name, _ in names.values()] == ["cloud", "lake", "oak", "pine"]


def test_a_label_in_the_legend_goes_before_a_value_map(export):
    layer = polygon_layer([(1, 0, 0, 160, 256), (2, 160, 0, 320, 256)], kind="integer")
    layer.setEditorWidgetSetup(0, QgsEditorWidgetSetup("ValueMap", {"map": {"Wald": 1, "See": 2}}))
    symbol = QgsFillSymbol.createSimple({"color": "#004400"})
    layer.setRenderer(QgsCategorizedSymbolRenderer("class", [QgsRendererCategory(1, symbol, "Forst")]))
    names, _ = export(layer, CLASS_FIELD="class")
    assert names[1] == ("Forst", "#004400")
    assert names[2][0] == "See"


def test_names_and_colours_come_from_simple_rules(export):
    layer = polygon_layer(FOUR)
    root = QgsRuleBasedRenderer.Rule(None)
    for rule, label, color in (
        ("\"class\" = 'oak'", "Eiche", "#004400"),
        ("class = 'lake'", "See", "#0000ff"),
        ("\"class\" = 'pine' AND \"note\" = 'note'", "no class of its own", "#ff0000"),
        ("\"note\" = 'cloud'", "of another field", "#ff0000"),
        ("", "all", "#ff0000"),
    ):
        symbol = QgsFillSymbol.createSimple({"color": color})
        root.appendChild(QgsRuleBasedRenderer.Rule(symbol, 0, 0, rule, label))
    layer.setRenderer(QgsRuleBasedRenderer(root))
    names, _ = export(layer, CLASS_FIELD="class")
    assert names[2] == ("See", "#0000ff") and names[3] == ("Eiche", "#004400")
    assert names[1][0] == "cloud" and names[4][0] == "pine"
    assert "#ff0000" not in {color for _, color in names.values()}


def test_a_class_table_needs_a_field(export):
    with pytest.raises(QgsProcessingException, match=r"A class table is given, but no Class field \(CLASS_FIELD\)"):
        export(polygon_layer(FOUR), CLASS_TABLE=["oak", 1, "", ""])


def quarters(*values):
    """Four rectangles side by side."""
    return [(value, 80 * place, 0, 80 * (place + 1), 256) for place, value in enumerate(values)]


def test_texts_that_differ_by_white_space_are_one_class_and_blank_ones_none(export):
    listener = Listener()
    layer = polygon_layer([*quarters("wald", " wald\xa0", "wald ", "  "), ("See", 0, 0, 320, 16)])
    names, pixels = export(layer, listener, CLASS_FIELD="class")
    assert {value: name for value, (name, _) in names.items()} == {1: "See", 2: "wald"}
    assert pixels == {1: 320 * 16, 2: 240 * 240}
    assert '1 feature of "land" left out: no class given.' in listener.warnings
    assert any("are the same class: wald" in text for text in listener.infos)


def test_letters_written_in_two_ways_are_one_class_and_capitals_are_named(export):
    listener = Listener()
    names, pixels = export(polygon_layer(quarters("for\u00eat", "fore\u0302t", "eau", "Eau")), listener,
                           CLASS_FIELD="class")  # fmt: skip
    assert [name for name, _ in names.values()] == ["Eau", "eau", "for\u00eat"]
    assert pixels[3] == 160 * 256
    assert any("upper and lower case are different classes: Eau and eau" in text for text in listener.infos)


def test_texts_that_are_whole_numbers_keep_them(export):
    names, pixels = export(polygon_layer(quarters("1", "2", "10", " 20")), CLASS_FIELD="class")
    assert {value: name for value, (name, _) in names.items()} == {
        1: "class 1", 2: "class 2", 10: "class 10", 20: "class 20"
    }  # fmt: skip
    assert set(pixels.values()) == {80 * 256}


def test_codes_that_are_the_same_number_stay_apart_with_a_word(export):
    listener = Listener()
    names, _ = export(polygon_layer(quarters("01", "1", "02", "02")), listener, CLASS_FIELD="class")
    assert {value: name for value, (name, _) in names.items()} == {1: "01", 2: "02", 3: "1"}
    assert any("They get new numbers: 01 1, 02 2, 1 3" in text for text in listener.infos)


def test_a_class_table_is_matched_as_texts_are(export):
    table = [" fore\u0302t", 7, "wood", "", "Eau", 3, "", ""]
    names, pixels = export(polygon_layer(quarters("for\u00eat\xa0", "for\u00eat", "Eau", " Eau")), CLASS_FIELD="class",
                           CLASS_TABLE=table)  # fmt: skip
    assert {value: name for value, (name, _) in names.items()} == {3: "Eau", 7: "wood"}
    assert pixels == {3: 160 * 256, 7: 160 * 256}


def test_a_class_table_knows_codes_by_their_numbers_and_leaves_the_others(export):
    # QGIS hands "01" of a table over as a number.
    names, pixels = export(polygon_layer(quarters("01", "02", "10", "none")), CLASS_FIELD="class",
                           CLASS_TABLE=[1.0, 2, "", "", "none", "", "", ""])  # fmt: skip
    assert {value: name for value, (name, _) in names.items()} == {2: "01, 02", 10: "class 10"}
    assert pixels == {2: 160 * 256, 10: 80 * 256}


def test_a_number_that_stays_never_joins_the_class_of_a_word(export):
    names, _ = export(polygon_layer(quarters("1", "2", "oak", "oak")), CLASS_FIELD="class",
                      CLASS_TABLE=["oak", 1, "", ""])  # fmt: skip
    assert {value: name for value, (name, _) in names.items()} == {1: "oak", 2: "1", 3: "2"}


def test_names_and_colours_of_a_legend_are_matched_as_texts_are(export):
    layer = polygon_layer(quarters("wald", "wald ", "see", "see"))
    symbol = QgsFillSymbol.createSimple({"color": "#004400"})
    layer.setRenderer(QgsCategorizedSymbolRenderer("class", [QgsRendererCategory(" wald", symbol, "Forst")]))
    assert export(layer, CLASS_FIELD="class")[0][2] == ("Forst", "#004400")


@pytest.mark.parametrize(
    ("kind", "values", "classes"),
    [
        ("boolean", (True, True, False, None), {1: "false", 2: "true"}),
        ("double", (1.0, 2.0, float("nan"), None), {1: "class 1", 2: "class 2"}),
        ("stringlist", (["a", "b"], ["a", "b"], ["c"], None), None),
    ],
)
def test_fields_of_other_types_hold_classes_too(export, kind, values, classes):
    names, pixels = export(polygon_layer(quarters(*values), kind=kind), CLASS_FIELD="class")
    assert len(names) == 2 and sum(pixels.values()) >= 160 * 256
    if classes:
        assert {value: name for value, (name, _) in names.items()} == classes


@pytest.mark.parametrize(("kind", "value"), [("double", 1.5), ("int8", 2**40)])
def test_numbers_that_are_no_class_values_are_refused_in_words(export, kind, value):
    with pytest.raises(QgsProcessingException, match=f"The class field class holds {value}"):
        export(polygon_layer(quarters(1, 1, 2, value), kind=kind), CLASS_FIELD="class")


def test_more_ways_to_write_a_class_than_classes_are_no_trouble(export):
    spelled = [f"{' ' * (number // 20)}class{number % 2}{' ' * (number % 20)}" for number in range(500)]
    rows = [(text, 0, number / 2, 320, number / 2 + 1) for number, text in enumerate(spelled)]
    names, _ = export(polygon_layer(rows), CLASS_FIELD="class")
    assert [name for name, _ in names.values()] == ["class0", "class1"]


def categorised(layer):
    symbol = QgsFillSymbol.createSimple({"color": "#004400"})
    layer.setRenderer(QgsCategorizedSymbolRenderer("note", [QgsRendererCategory("x", symbol, "x")]))


@pytest.mark.parametrize(
    ("values", "change", "kind", "named"),
    [
        (("oak", "pine", "oak", "lake"), None, "string", "class with 3 different values (lake, oak, pine)"),
        ((1, 2, 2, 1), None, "integer", "class with 2 different values (1, 2)"),
        (("oak", "oak", "oak ", "oak"), None, "string", None),
        (("a", "b", "c", "d"), None, "string", None),  # as many as features: names of them
        ((1.5, 2.5, 1.5, 2.5), None, "double", None),
        (("oak", "oak", "oak", "oak"), categorised, "string", "note with 2 different values (x, y)"),
    ],
)
def test_a_field_that_looks_like_classes_is_named_where_none_is_chosen(export, values, change, kind, named):
    layer, listener = polygon_layer(quarters(*values), kind=kind), Listener()
    if change:
        rows = {feature.id(): {1: "xy"[feature.id() % 2]} for feature in layer.getFeatures()}
        assert layer.dataProvider().changeAttributeValues(rows)
        change(layer)
    export(layer, listener, EXTENT="400000,400320,5499700,5500100", BACKGROUND="class")
    found = [text for text in listener.warnings if "no Class field (CLASS_FIELD) is given" in text]
    assert len(found) == (named is not None)
    assert not named or f'The layer "land" has the field {named}' in found[0]
