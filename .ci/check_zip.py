"""Check that a zip file holds a whole plugin and nothing that a plugin repository refuses.

    python3 check_zip.py terrazzo.zip

Needs the standard library only. That the unpacked plugin imports is tried where qgis does.
"""

from __future__ import annotations

import ast
import configparser
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MAX_BYTES = 25_000_000
ROOT = "terrazzo/"
NEEDED = (
    "__init__.py", "metadata.txt", "LICENSE", "README.md", "CHANGELOG.md", "processing_provider/provider.py",
    "plugin/main.py", "plugin/requirements.txt", "plugin/environment.py", "plugin/engine/worker.py",
)  # fmt: skip
UNWANTED = ("tests/", "benchmarks/", ".ci/", "Makefile", "pyproject.toml", ".git")
KEYS = ("name", "description", "about", "version", "author", "email", "qgisMinimumVersion", "qgisMaximumVersion",
        "hasProcessingProvider", "icon", "repository", "tracker", "tags", "category")  # fmt: skip
TEXT_ENDINGS = (".py", ".txt", ".md", ".svg", ".qml", ".json", ".model3", ".html", ".j2", ".css", ".ui")
PICTURE_ENDINGS = (".png", ".jpg")
SAMPLE = ("resources/sample/image.tif", "resources/sample/landcover.gpkg")
BANNED_MODULES = ("pickle", "cPickle", "dill", "shelve", "marshal", "joblib")
BANNED_CALLS = ("eval", "exec", "__import__")


def main() -> None:
    """Check the zip that the command line names; exit status 1 with a list of what is wrong."""
    path = Path(sys.argv[1])
    wrong = check(path)
    if wrong:
        sys.exit("\n".join([f"{path} is no good:", *(f"  {problem}" for problem in wrong)]))
    with zipfile.ZipFile(path) as archive:
        count = len(archive.namelist())
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {count} entries, all as it should be")


def check(path: Path) -> list[str]:
    """What is wrong with a plugin zip, one sentence each; empty if nothing is."""
    wrong = []
    if path.stat().st_size > MAX_BYTES:
        wrong.append(f"{path.stat().st_size / 1e6:.1f} MB are more than {MAX_BYTES / 1e6:.0f} MB")
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        outside = [name for name in names if not name.startswith(ROOT) or ".." in Path(name).parts]
        if outside:
            return [*wrong, f"{outside[0]} lies outside of {ROOT}"]
        inner = [name[len(ROOT) :] for name in names]
        wrong += [f"{name} is missing" for name in NEEDED if name not in inner]
        wrong += [f"{name} does not belong in it" for name in inner if name.startswith(UNWANTED)]
        wrong += check_packages(inner)
        for name in inner:
            wrong += check_file(name, archive.read(ROOT + name))
        if "metadata.txt" in inner:
            wrong += check_metadata(archive.read(ROOT + "metadata.txt").decode("utf-8"), inner)
        return wrong or check_import(archive)


def check_packages(names: list[str]) -> list[str]:
    """Folders with Python files of the plugin that are no packages."""
    folders = {parent.as_posix() for name in names if name.endswith(".py") for parent in Path(name).parents[:-1]}
    scripts = ("resources",)  # plain scripts, which nothing imports as a package
    return [
        f"{folder}/__init__.py is missing"
        for folder in sorted(folders)
        if not folder.startswith(scripts) and f"{folder}/__init__.py" not in names
    ]


def check_file(name: str, data: bytes) -> list[str]:
    """What is wrong with one file: a binary, or Python that runs what it reads."""
    if name.endswith(PICTURE_ENDINGS) or name in SAMPLE:
        return []
    if not name.endswith(TEXT_ENDINGS) and Path(name).name != "LICENSE":
        return [f"{name} is a file of an unknown kind"]
    if b"\0" in data:
        return [f"{name} is a binary file"]
    return check_python(name, data.decode("utf-8")) if name.endswith(".py") else []


def check_python(name: str, source: str) -> list[str]:
    """Imports and calls that can run a stranger's data."""
    wrong = []
    for node in ast.walk(ast.parse(source, name)):
        place = f"{name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            wrong += [f"{place} imports {module}" for module in modules if module.split(".")[0] in BANNED_MODULES]
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in BANNED_CALLS:
                wrong.append(f"{place} calls {node.func.id}")
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            owner = getattr(getattr(node.func, "value", None), "id", "")
            words = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            if words.get("shell"):
                wrong.append(f"{place} passes shell=True")
            if (owner, called) == ("os", "system"):
                wrong.append(f"{place} calls os.system")
            if (owner, called) == ("torch", "load") and words.get("weights_only") is not True:
                wrong.append(f"{place} calls torch.load without weights_only=True")
    return wrong


def check_metadata(text: str, names: list[str]) -> list[str]:
    """Keys that metadata.txt lacks, and an icon that the zip lacks."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
        values = dict(parser["general"])
    except (configparser.Error, KeyError) as error:
        return [f"metadata.txt cannot be read ({error})"]
    wrong = [f"metadata.txt lacks {key}" for key in KEYS if not values.get(key, "").strip()]
    if values.get("icon", "") not in names:
        wrong.append(f"metadata.txt names the icon {values.get('icon')}, which is not there")
    return wrong


def check_import(archive: zipfile.ZipFile) -> list[str]:
    """Unpack the plugin somewhere else and import it, its provider with qgis, its worker's protocol without."""
    code = "import terrazzo"
    if importlib.util.find_spec("qgis"):
        code += ", terrazzo.plugin.main, terrazzo.processing_provider.provider, sys; assert 'torch' not in sys.modules"
    with tempfile.TemporaryDirectory() as folder:
        archive.extractall(folder)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        clean["QT_QPA_PLATFORM"] = "offscreen"
        done = subprocess.run([sys.executable, "-B", "-c", code], cwd=folder, env=clean, capture_output=True, text=True)
    return [] if done.returncode == 0 else [f"the unpacked plugin does not import:\n{done.stderr}"]


if __name__ == "__main__":
    main()
