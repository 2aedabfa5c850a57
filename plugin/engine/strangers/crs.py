"""A CRS in the words of a stranger."""

from __future__ import annotations

import re
from typing import Any, Optional

LONGEST = 100_000  # letters
# Anything else (a file, an address) GDAL would fetch.
WKT = re.compile(r"\s*[A-Z]+(_[A-Z]+)?\s*[\[(]")
# Grids, models and definitions that PROJ would open by their path.
FILES = re.compile(
    r'(?:grids|file|model|init)(?:=|"[\s,]*")([^"\s\])]*)|PARAMETERFILE[\[(]"[^"]*"[\s,]*"([^"]*)"', re.IGNORECASE
)


def fault_of_crs(text: Any) -> Optional[str]:
    """Why a CRS may not be used, in words; None where it may, or there is none."""
    if not isinstance(text, str):
        return "it is no text"
    if not text:
        return None
    if len(text) > LONGEST or not WKT.match(text):
        return "it is no WKT"
    if any(re.search(r"[/\\:]", found[1] or found[2] or "") for found in FILES.finditer(text)):
        return "it names a file"
    return None
