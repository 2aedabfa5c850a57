"""The tutorial: everything that it names exists under that name."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "first-map.md").read_text(encoding="utf-8")


def test_its_pictures_and_links_are_there_and_small(provider):
    from terrazzo.plugin.metadata import anchor

    pictures = set(re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT))
    assert pictures == {f"first-map/{path.name}" for path in (DOCS / "first-map").iterdir()}
    assert sum((DOCS / name).stat().st_size for name in pictures) < 1e6
    for target in re.findall(r"(?<!!)\[[^\]]+\]\(([^)]+)\)", TEXT):
        page, _, heading = target.partition("#")
        text = (DOCS / page).read_text(encoding="utf-8") if page else TEXT
        assert not heading or heading in [anchor(line) for line in re.findall("^#+ (.*)$", text, re.M)], target


def test_its_algorithms_and_their_parameters_are_called_so(provider):
    opened = list(re.finditer(r"Double-click \*([^*]+) ▸ ([^*]+)\*", TEXT))
    assert len(opened) == 3
    by_name = {algorithm.displayName(): algorithm for algorithm in provider.algorithms()}
    for number, match in enumerate(opened):
        algorithm = by_name[match.group(2)]
        assert algorithm.group() == match.group(1)
        part = TEXT[match.end() : opened[number + 1].start() if number + 1 < len(opened) else TEXT.index("## 7")]
        labels = [definition.description() for definition in algorithm.parameterDefinitions()]
        for name in re.findall(r"^\d+\. \*\*([^*]+)\*\*", part, re.MULTILINE):
            assert any(label.startswith(name) for label in labels), name


def test_the_menu_and_the_set_up_have_its_words(provider):
    from terrazzo.plugin.gui import door, sample, setup_panel

    code = "".join(Path(module.__file__).read_text(encoding="utf-8") for module in (door, sample, setup_panel))
    for words in (
        "Set it up…", "Set up training and mapping…", "Load the sample layers…", "Download and set up", "Try again",
        "Training and mapping are ready", "One thing is left to do", "terrazzo-sample",
    ):  # fmt: skip
        assert words in TEXT and words in code, words
