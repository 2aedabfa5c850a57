"""The plugin's entry points, which QGIS calls when it loads and unloads the plugin."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsApplication

from ..processing_provider.provider import TerrazzoProvider


class TerrazzoPlugin:
    """Registers the Processing provider and, in QGIS Desktop, the options page and the set-up.

    Args:
        iface: The `QgisInterface`; None in `qgis_process`, which only calls `initProcessing`.
    """

    def __init__(self, iface: Any) -> None:
        self.iface = iface
        self.provider: TerrazzoProvider | None = None
        self.options: Any = None
        self.door: Any = None

    def initProcessing(self) -> None:
        """Register the algorithms; `qgis_process` calls this too."""
        self.provider = TerrazzoProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """Register the algorithms, the options page and the set-up."""
        from . import setup
        from .gui.door import Door
        from .gui.options import OptionsFactory

        self.initProcessing()
        self.options = OptionsFactory()
        self.iface.registerOptionsWidgetFactory(self.options)
        self.door = Door(self.iface)
        setup.open_window = self.door.open

    def unload(self) -> None:
        """Unregister everything."""
        from . import setup

        setup.open_window = None
        if self.door is not None:
            self.door.close()
            self.door = None
        if self.options is not None:
            self.iface.unregisterOptionsWidgetFactory(self.options)
            self.options = None
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
