"""Labels of the dialogs in messages."""

import pytest
from terrazzo.processing_provider.wording import in_words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("CHIP_SIZE is 3. Give a number.", "Chip size (CHIP_SIZE) is 3. Give a number."),
        ("INPUT and INPUT_FOLDER are given.", "Images (INPUT) and Folder of images (INPUT_FOLDER) are given."),
        ("Choose rasters as Images (INPUT).", "Choose rasters as Images (INPUT)."),
        ("Declare it with NODATA.", "Declare it with Image value for “no data” (NODATA)."),
        ("There is no /data/INPUT/scene.tif.", "There is no /data/INPUT/scene.tif."),
        ('The class "INPUT" is in EPSG:32633, of type GTiff, as NODATA=0.',
         'The class "INPUT" is in EPSG:32633, of type GTiff, as NODATA=0.'),
        # Of another algorithm's parameter.
        ("Train again with SEED 3.", "Train again with Seed (SEED) 3."),
    ],
)  # fmt: skip
def test_parameters_are_called_what_the_dialog_calls_them(provider, text, words):
    assert in_words_of(provider.algorithm("exportchips"), text) == words


def test_the_same_name_is_called_what_each_dialog_calls_it(provider):
    assert in_words_of(provider.algorithm("segmentraster"), "INPUT is wrong.") == "Image (INPUT) is wrong."
    assert in_words_of(provider.algorithm("trainsegmenter"), 'DEVICE is "gpu".') == 'Device (DEVICE) is "gpu".'
    assert in_words_of(provider.algorithm("trainsegmenter"), "Lower LEARNING_RATE.") == (
        "Lower Optimizer: highest rate (LEARNING_RATE)."
    )
    assert in_words_of(provider.algorithm("importchips"), "INPUT is wrong.") == "Folder of chips (INPUT) is wrong."
