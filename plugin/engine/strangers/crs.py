"""Checks of a CRS from an untrusted file."""

from __future__ import annotations

import re
from typing import Any, Optional

LONGEST = 100_000  # letters
# GDAL would take any other text for a file or an address and read it.
WKT = re.compile(r"\s*[A-Z]+(_[A-Z]+)?\s*[\[(]")
# Grids, models and definitions that PROJ would read from a path.
FILES = re.compile(
    r'(?:grids|file|model|init)(?:=|"[\s,]*")([^"\s\])]*)|PARAMETERFILE[\[(]"[^"]*"[\s,]*"([^"]*)"', re.IGNORECASE
)


def fault_of_crs(text: Any) -> Optional[str]:
    """Describe why a CRS must not be used; None if it may be used or is absent."""
    if not isinstance(text, str):
        return "it is no text"
    if not text:
        return None
    if len(text) > LONGEST or not WKT.match(text):
        return "it is no WKT"
    if any(re.search(r"[/\\:]", found[1] or found[2] or "") for found in FILES.finditer(text)):
        return "it names a file"
    return None
