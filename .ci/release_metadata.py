"""Write the project's real addresses into metadata.txt of a plugin's zip, or say that they are placeholders.

    python3 .ci/release_metadata.py build/terrazzo.zip HOMEPAGE=… TRACKER=… REPOSITORY=… EMAIL=…

All four or none are given; see `make zip`.
"""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

METADATA = "terrazzo/metadata.txt"
ADDRESS, MAIL = r"https://[\w.-]+\.\w+(/\S*)?", r"[^@\s]+@[\w-]+(\.[\w-]+)+"
PATTERNS = {"homepage": ADDRESS, "tracker": ADDRESS, "repository": ADDRESS, "email": MAIL}
PLACEHOLDER = "example.org"


def main() -> None:
    """Write them; exit status 1, and no zip, where they are half given or malformed."""
    archive = Path(sys.argv[1])
    words = dict(word.partition("=")[::2] for word in sys.argv[2:])
    given = {key: words.get(key.upper(), "").strip() for key in PATTERNS}
    try:
        if any(given.values()):
            rewrite(archive, checked(given))
    except ValueError as error:
        archive.unlink()
        sys.exit(str(error))
    with zipfile.ZipFile(archive) as file:
        held = [key for key in PATTERNS if PLACEHOLDER in value_of(file.read(METADATA).decode("utf-8"), key)]
    if held:
        print(
            f"Placeholders of {PLACEHOLDER} in metadata.txt: {', '.join(held)}. For a release give the real ones:\n"
            "  make zip HOMEPAGE=https://… TRACKER=https://… REPOSITORY=https://… EMAIL=name@…"
        )


def checked(given: dict[str, str]) -> dict[str, str]:
    """The addresses.

    Raises:
        ValueError: Some lack, or are none.
    """
    lacking = [key.upper() for key, value in given.items() if not value]
    if lacking:
        raise ValueError(f"{', '.join(lacking)} not given: a release needs all of {', '.join(given).upper()}.")
    for key, value in given.items():
        if not re.fullmatch(PATTERNS[key], value) or PLACEHOLDER in value:
            what = "an e-mail address" if key == "email" else "an address that begins with https://"
            raise ValueError(f"{key.upper()}={value} is not {what} of your own.")
    return {**given, "repository": given["repository"].rstrip("/")}  # the guide's addresses go on from there


def rewrite(archive: Path, values: dict[str, str]) -> None:
    """Replace the values in metadata.txt; all else of the zip stays as it is."""
    fresh = archive.with_suffix(".new")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename == METADATA:
                text = data.decode("utf-8")
                for key, value in values.items():
                    text = text.replace(f"\n{key}={value_of(text, key)}\n", f"\n{key}={value}\n")
                data = text.encode("utf-8")
            new.writestr(entry, data)
    fresh.replace(archive)


def value_of(text: str, key: str) -> str:
    """The value of a key of metadata.txt."""
    found = re.search(rf"^{key}=(.*)$", text, re.MULTILINE)
    return found.group(1) if found else ""


if __name__ == "__main__":
    main()
