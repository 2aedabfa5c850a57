"""What holds for every report."""

from __future__ import annotations

import re
from html.parser import HTMLParser


def check_whole(page: str) -> None:
    """Every tag is closed, nothing is run, and nothing else is needed."""
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page) and "http-equiv" not in page
    assert "<script" not in page
    opened: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attributes: object) -> None:
            if tag not in ("meta", "img", "br"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Balance().feed(page)
    assert not opened
