"""The parameters of the algorithms; each is declared once, as a row of name, label and help.

A row creates a Processing parameter and reads its value as a setting of the job. Default, range and choices come from
the config field of the same name in lower case.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
    QgsProcessingUtils,
)

from ..plugin.engine.config import JobConfig
from ..plugin.engine.errors import InputError
from ..plugin.engine.records import Record
from .places import place_wished, wanted

Parameters = dict[str, Any]

# QGIS looks an enumeration's value up by name each time, and registering the algorithms needs hundreds of them. For the
# same reason `definition` gives arguments by position where it can: by name they take three times as long.
ADVANCED = QgsProcessingParameterDefinition.Flag.FlagAdvanced
WHOLE = QgsProcessingParameterNumber.Type.Integer
NUMBERS = {"int": WHOLE, "float": QgsProcessingParameterNumber.Type.Double}


class Row(Record):
    """A parameter: its name, its label in the dialog and its help text."""

    name: str
    label: str
    help: str
    optional: bool = False
    advanced: bool = False

    def build(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create the Processing parameter."""
        definition = self.definition(config)
        definition.setHelp(self.explained(config))
        if self.advanced:
            definition.setFlags(definition.flags() | ADVANCED)
        return definition

    def explained(self, config: type[JobConfig]) -> str:
        """The help text."""
        return self.help

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create the Processing parameter, without the properties that all rows share."""
        raise NotImplementedError

    def given(self, parameters: Parameters) -> bool:
        """Return whether the caller gave a value."""
        return parameters.get(self.name) not in (None, "", [])


class ValueRow(Row):
    """A parameter whose value is used as a setting without change."""

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return the setting; None or () if an optional parameter is not given."""
        raise NotImplementedError


class Setting(ValueRow):
    """A number, choice, switch or text; type, default and bounds come from the config field."""

    decimals: int = 6  # shown in the dialog

    def explained(self, config: type[JobConfig]) -> str:
        """The help text, and what each choice is."""
        table = config.declared()[self.name.lower()].table or {}
        return " ".join([self.help, *(f"{name}: {choice.words}" for name, choice in table.items())])

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create the parameter class that fits the type and bounds of the field."""
        said = config.declared()[self.name.lower()]
        # Annotations are strings, because they use syntax of a later Python than QGIS may have.
        kind, _, absent = said.kind.partition(" | ")
        # A setting added after a release must be optional, or models saved with earlier releases become invalid.
        optional = self.optional or bool(absent)
        if said.choices:
            choices, several, as_texts = list(said.choices), False, True
            return QgsProcessingParameterEnum(self.name, self.label, choices, several, said.default, optional, as_texts)
        if kind == "bool":
            return QgsProcessingParameterBoolean(self.name, self.label, said.default, optional)
        if kind == "str":
            return QgsProcessingParameterString(self.name, self.label, said.default, optional=optional)
        number = QgsProcessingParameterNumber(self.name, self.label, NUMBERS[kind], said.default, optional)
        if kind == "float":
            number.setMetadata({"widget_wrapper": {"decimals": self.decimals}})
        if said.low is not None:
            number.setMinimum(said.low)
        if said.high is not None:
            number.setMaximum(said.high)
        return number

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return the value in the field's type."""
        definition = algorithm.parameterDefinition(self.name)
        if parameters.get(self.name) in (None, "") and definition.defaultValue() is None:
            return None
        if isinstance(definition, QgsProcessingParameterEnum):
            return algorithm.parameterAsEnumString(parameters, self.name, context)
        if isinstance(definition, QgsProcessingParameterBoolean):
            return algorithm.parameterAsBoolean(parameters, self.name, context)
        if isinstance(definition, QgsProcessingParameterString):
            return algorithm.parameterAsString(parameters, self.name, context)
        number = algorithm.parameterAsDouble(parameters, self.name, context)
        if definition.dataType() != WHOLE:
            return number
        if not number.is_integer():  # QGIS would silently round it
            raise InputError(f"{self.name} is {number:g}.", "Give a whole number.")
        return int(number)


class Number(ValueRow):
    """A number that is not a setting of the job, because it only affects how layers are read."""

    default: float = 0.0
    low: float = 0.0
    whole: bool = False  # whether it is shown without decimals

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a number parameter."""
        kind = NUMBERS["int" if self.whole else "float"]
        return QgsProcessingParameterNumber(
            self.name, self.label, type=kind, defaultValue=self.default, optional=True, minValue=self.low
        )

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return the number."""
        return algorithm.parameterAsDouble(parameters, self.name, context)


class InputFile(ValueRow):
    """An existing file."""

    filter: str = ""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a file parameter."""
        return QgsProcessingParameterFile(self.name, self.label, fileFilter=self.filter, optional=self.optional)

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return the absolute path."""
        return absolute(algorithm.parameterAsFile(parameters, self.name, context))


class InputFolder(InputFile):
    """An existing folder."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a folder parameter."""
        behavior = QgsProcessingParameterFile.Behavior.Folder
        return QgsProcessingParameterFile(self.name, self.label, behavior=behavior, optional=self.optional)


class Destination(ValueRow):
    """A result of the algorithm."""

    called: str = ""  # its word in the file name that the dialog proposes; "" = no proposal

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return the absolute path; None if an optional result is not wanted."""
        return absolute(algorithm.parameterAsFileOutput(parameters, self.name, context))

    def wished(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return the path that `value` will give, as far as it is known before the run; a similar path for a temporary
        one.

        Unlike `value`, this may be called whenever the dialog checks its values: `value` creates new temporary names
        and registers layers to load.
        """
        place = place_wished(parameters.get(self.name), context)
        if place.temporary:
            definition = algorithm.parameterDefinition(self.name)
            ending = definition.defaultFileExtension()
            return str(Path(QgsProcessingUtils.tempFolder()) / (f"{self.name}.{ending}" if ending else self.name))
        return None if place.path is None else str(place.path)


class OutputFolder(Destination):
    """A folder to write."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a folder destination."""
        return QgsProcessingParameterFolderDestination(self.name, self.label)


class OutputFile(Destination):
    """A file to write."""

    filter: str = ""
    by_default: bool = True  # whether the dialog creates an optional one

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a file destination."""
        return QgsProcessingParameterFileDestination(
            self.name, self.label, fileFilter=self.filter, optional=self.optional, createByDefault=self.by_default
        )


class OutputLayer(Destination):
    """A layer to write, which QGIS may add to the project."""

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return the absolute path; None if an optional layer is not wanted."""
        if not wanted(parameters.get(self.name), context):
            return None  # for an empty cell of a batch, QGIS would register a layer to load
        return absolute(algorithm.parameterAsOutputLayer(parameters, self.name, context))


class OutputRaster(OutputLayer):
    """A raster to write."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a raster destination; an optional one is not created by default."""
        return QgsProcessingParameterRasterDestination(
            self.name, self.label, optional=self.optional, createByDefault=not self.optional
        )


class OutputVector(OutputLayer):
    """A polygon layer to write."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a vector destination; the dialog creates an optional one by default."""
        kind = QgsProcessing.SourceType.TypeVectorPolygon
        return QgsProcessingParameterVectorDestination(
            self.name, self.label, type=kind, optional=self.optional, createByDefault=True
        )


def absolute(path: str) -> Optional[str]:
    """Make a path absolute, because the worker runs in another folder; None for an empty path."""
    return str(Path(path).expanduser().absolute()) if path else None
