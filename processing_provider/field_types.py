"""Field types: QGIS takes them from QMetaType since 3.38; QGIS 4 accepts no others."""

from __future__ import annotations

from qgis.core import Qgis
from qgis.PyQt.QtCore import QMetaType, QVariant

if Qgis.versionInt() >= 33800:
    INTEGER, LONG = QMetaType.Type.Int, QMetaType.Type.LongLong
    NUMBER, TEXT = QMetaType.Type.Double, QMetaType.Type.QString
else:
    INTEGER, LONG = QVariant.Int, QVariant.LongLong
    NUMBER, TEXT = QVariant.Double, QVariant.String
