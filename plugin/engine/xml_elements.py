"""XML to build and to write. What reads XML is `strangers.texts.parse_xml` alone, since the library's own parser lets
entities grow to any size.
"""

from __future__ import annotations

# The scan of the plugin repository warns of that parser, which is not among these.
from xml.etree.ElementTree import Element, SubElement, TreeBuilder, indent, tostring  # nosec B405

__all__ = ["Element", "SubElement", "TreeBuilder", "indent", "tostring"]
