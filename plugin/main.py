"""The plugin as QGIS switches it on and off: wiring only."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsApplication

from ..processing_provider.provider import TerrazzoProvider


class TerrazzoPlugin:
    """Registers the Processing provider, and in the desktop the options page and the set-up.

    Args:
        iface: QGIS's interface; None in `qgis_process`, which calls `initProcessing` alone.
    """

    def __init__(self, iface: Any) -> None:
        self.iface = iface
        self.provider: TerrazzoProvider | None = None
        self.options: Any = None
        self.door: Any = None

    def initProcessing(self) -> None:
        """Make the algorithms known; called by `qgis_process` too."""
        self.provider = TerrazzoProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """Make the algorithms, the options page and the set-up known."""
        from . import setup
        from .gui.door import Door
        from .gui.options import OptionsFactory

        self.initProcessing()
        self.options = OptionsFactory()
        self.iface.registerOptionsWidgetFactory(self.options)
        self.door = Door(self.iface)
        setup.open_window = self.door.open

    def unload(self) -> None:
        """Take everything back."""
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
