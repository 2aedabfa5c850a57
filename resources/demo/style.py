"""A QGIS style (QML) that draws polygons by the text in one field."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr


def categorised_style(field: str, classes: dict[str, str]) -> str:
    """The QML text for `field`, with a colour (#rrggbb) for each class name."""
    categories, symbols = [], []
    for number, (name, color) in enumerate(classes.items()):
        red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
        categories.append(
            f'<category symbol="{number}" value={quoteattr(name)} label={quoteattr(name)} render="true"/>'
        )
        symbols.append(
            f'<symbol type="fill" name="{number}"><layer class="SimpleFill"><Option type="Map">'
            f'<Option type="QString" name="color" value="{red},{green},{blue},255"/>'
            '<Option type="QString" name="outline_style" value="no"/>'
            '<Option type="QString" name="style" value="solid"/></Option></layer></symbol>'
        )
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        f'<qgis styleCategories="Symbology"><renderer-v2 type="categorizedSymbol" attr={quoteattr(field)} '
        f'symbollevels="0" enableorderby="0"><categories>{"".join(categories)}</categories>'
        f"<symbols>{''.join(symbols)}</symbols></renderer-v2></qgis>\n"
    )
