"""The plugin as QGIS switches it on and off: wiring only."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsApplication

from ..processing_provider.provider import TerrazzoProvider


class TerrazzoPlugin:
    """Registers the Processing provider, and in the desktop the options page.

    Args:
        iface: QGIS's interface; None in `qgis_process`, which calls `initProcessing` alone.
    """

    def __init__(self, iface: Any) -> None:
        self.iface = iface
        self.provider: TerrazzoProvider | None = None
        self.options: Any = None

    def initProcessing(self) -> None:
        """Make the algorithms known; called by `qgis_process` too."""
        self.provider = TerrazzoProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """Make the algorithms and the options page known."""
        from .gui.options import OptionsFactory

        self.initProcessing()
        self.options = OptionsFactory()
        self.iface.registerOptionsWidgetFactory(self.options)

    def unload(self) -> None:
        """Take everything back."""
        if self.options is not None:
            self.iface.unregisterOptionsWidgetFactory(self.options)
            self.options = None
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
