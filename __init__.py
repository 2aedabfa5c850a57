"""Terrazzo: trains fully convolutional networks on a person's own layers, and maps with them."""


def classFactory(iface: object) -> object:
    """Give QGIS the plugin."""
    from .plugin.main import TerrazzoPlugin

    return TerrazzoPlugin(iface)
