"""Writing of reports as self-contained HTML files, and number formats."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..drafts import claim, publish
from ..errors import ResourceError
from ..files import why_not_written

MISSING = "–"


def write_page(path: str, template: str, content: dict[str, Any]) -> None:
    """Render a template, given by its path in the engine, to a file.

    Raises:
        ResourceError: The file cannot be written.
    """
    text = _environment().get_template(template).render({"percent": percent, "decimal": decimal, **content})
    try:
        with claim(path) as draft:
            draft.fresh().write_text(text, encoding="utf-8")
            publish(draft)
    except OSError as error:
        raise ResourceError(
            f"The report {path} could not be written ({why_not_written(path, error)}).",
            "Free some space, or choose another folder.",
        ) from error


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def percent(value: float | None) -> str:
    """A share in per cent with one decimal; a dash if undefined."""
    return MISSING if value is None else f"{value:.1%}"


def decimal(value: float | None) -> str:
    """A number with three significant digits; a dash if undefined."""
    return MISSING if value is None else f"{value:.3g}"
