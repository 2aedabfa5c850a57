"""Classes to build and write XML. XML is read only with `strangers.texts.parse_xml`, since the parser of the standard
library lets entities expand to any size.
"""

from __future__ import annotations

# The scan of the plugin repository warns of ElementTree's parser, which is not imported here.
from xml.etree.ElementTree import Element, SubElement, TreeBuilder, indent, tostring  # nosec B405

__all__ = ["Element", "SubElement", "TreeBuilder", "indent", "tostring"]
