"""The addresses of a release."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REAL = {
    "HOMEPAGE": "https://terrazzo.net", "TRACKER": "https://code.net/t/issues", "REPOSITORY": "https://code.net/t/",
    "EMAIL": "me@code.net",
}  # fmt: skip


@pytest.fixture
def release(tmp_path):
    path = tmp_path / "terrazzo.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.write(ROOT / "metadata.txt", "terrazzo/metadata.txt")
        file.writestr("terrazzo/LICENSE", "free")

    def release(**given):
        command = [sys.executable, str(ROOT / ".ci" / "release_metadata.py"), str(path)]
        command += [f"{name}={value}" for name, value in given.items()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not path.exists():
            return done.stderr, {}
        with zipfile.ZipFile(path) as file:
            lines = file.read("terrazzo/metadata.txt").decode().splitlines()
            assert file.read("terrazzo/LICENSE") == b"free"
        return done.stdout, dict(line.split("=", 1) for line in lines if "=" in line)

    return release


def test_placeholders_are_told_with_the_way_to_replace_them(release):
    said, values = release()
    assert "homepage, tracker, repository, email" in said and "make zip HOMEPAGE=" in said
    assert values["repository"].startswith("https://example.org")


def test_a_release_has_the_addresses_given(release):
    said, values = release(**REAL)
    assert said == "" and values["homepage"] == REAL["HOMEPAGE"] and values["tracker"] == REAL["TRACKER"]
    assert values["repository"] == "https://code.net/t" and values["email"] == REAL["EMAIL"]
    assert values["name"] == "Terrazzo" and "example.org" not in str(values)


@pytest.mark.parametrize(
    ("change", "word"),
    [({"EMAIL": ""}, "EMAIL not given"), ({"TRACKER": "code.net"}, "TRACKER=code.net"), ({"EMAIL": "me"}, "EMAIL=me"),
     ({"HOMEPAGE": "https://example.org/t"}, "of your own")],
)  # fmt: skip
def test_half_given_and_malformed_addresses_make_no_zip(release, change, word):
    said, values = release(**{**REAL, **change})
    assert word in said and not values
