"""The parameters of the algorithms: each is declared once, as a row of name, label and help.

A row becomes a Processing parameter and reads its value back as a setting of the job. Defaults, ranges and choices
come from the config field of the same name in lower case.
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

Parameters = dict


class Row(Record):
    """A parameter: its name, what the dialog calls it, and what it does."""

    name: str
    label: str
    help: str
    optional: bool = False
    advanced: bool = False

    def build(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """The Processing parameter."""
        definition = self.definition(config)
        definition.setHelp(self.explained(config))
        if self.advanced:
            definition.setFlags(definition.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
        return definition

    def explained(self, config: type[JobConfig]) -> str:
        """The help text."""
        return self.help

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """The Processing parameter without what all rows share."""
        raise NotImplementedError

    def given(self, parameters: Parameters) -> bool:
        """Whether the caller gave a value."""
        return parameters.get(self.name) not in (None, "", [])


class ValueRow(Row):
    """A parameter whose value is a setting of the job as it stands."""

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """The setting; None or () where an optional one is not given."""
        raise NotImplementedError


class Setting(ValueRow):
    """A number, choice, switch or text; type, default and bounds are those of the config field."""

    decimals: int = 6  # that the dialog shows

    def explained(self, config: type[JobConfig]) -> str:
        """The help text, and what each choice is."""
        table = config.declared()[self.name.lower()].table or {}
        return " ".join([self.help, *(f"{name}: {choice.words}" for name, choice in table.items())])

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A parameter of the kind that the field's type and bounds ask for."""
        said = config.declared()[self.name.lower()]
        # The annotations are texts, because they are written for a later Python than QGIS may have.
        kind, _, absent = said.kind.partition(" | ")
        # A setting that came after a release is optional, or models saved before would no longer be valid.
        optional = self.optional or bool(absent)
        if said.choices:
            return QgsProcessingParameterEnum(
                self.name,
                self.label,
                options=list(said.choices),
                defaultValue=said.default,
                optional=optional,
                usesStaticStrings=True,
            )
        if kind == "bool":
            return QgsProcessingParameterBoolean(self.name, self.label, defaultValue=said.default, optional=optional)
        if kind == "str":
            return QgsProcessingParameterString(self.name, self.label, defaultValue=said.default, optional=optional)
        types = {"int": QgsProcessingParameterNumber.Type.Integer, "float": QgsProcessingParameterNumber.Type.Double}
        number = QgsProcessingParameterNumber(
            self.name, self.label, type=types[kind], defaultValue=said.default, optional=optional
        )
        number.setMetadata({"widget_wrapper": {"decimals": self.decimals}})
        if said.low is not None:
            number.setMinimum(said.low)
        if said.high is not None:
            number.setMaximum(said.high)
        return number

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """The value in the field's type."""
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
        if definition.dataType() != QgsProcessingParameterNumber.Type.Integer:
            return number
        if not number.is_integer():  # which QGIS would round without a word
            raise InputError(f"{self.name} is {number:g}.", "Give a whole number.")
        return int(number)


class Number(ValueRow):
    """A number that is no setting of the job, because what is read from layers depends on it alone."""

    default: float = 0.0
    low: float = 0.0

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A number of any kind."""
        kind = QgsProcessingParameterNumber.Type.Double
        return QgsProcessingParameterNumber(
            self.name, self.label, type=kind, defaultValue=self.default, optional=True, minValue=self.low
        )

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """The number."""
        return algorithm.parameterAsDouble(parameters, self.name, context)


class InputFile(ValueRow):
    """A file that exists."""

    filter: str = ""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A file."""
        return QgsProcessingParameterFile(self.name, self.label, fileFilter=self.filter, optional=self.optional)

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Its absolute path."""
        return absolute(algorithm.parameterAsFile(parameters, self.name, context))


class InputFolder(InputFile):
    """A folder that exists."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A folder."""
        behavior = QgsProcessingParameterFile.Behavior.Folder
        return QgsProcessingParameterFile(self.name, self.label, behavior=behavior, optional=self.optional)


class Destination(ValueRow):
    """Something that the algorithm writes."""

    called: str = ""  # the word for it in the name that the dialog proposes; "" = none is proposed

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Its absolute path; None where an optional one is not wanted."""
        return absolute(algorithm.parameterAsFileOutput(parameters, self.name, context))

    def wished(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """What its value will be as far as that is known now; for a temporary one, a path like it.

        Not `value`: that would make new names, and have layers loaded, whenever a dialog looks whether all is well.
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
        """A folder destination."""
        return QgsProcessingParameterFolderDestination(self.name, self.label)


class OutputFile(Destination):
    """A file to write."""

    filter: str = ""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A file destination; an optional one is made by default in the dialog."""
        return QgsProcessingParameterFileDestination(
            self.name, self.label, fileFilter=self.filter, optional=self.optional, createByDefault=True
        )


class OutputLayer(Destination):
    """A layer to write, which QGIS may add to the project."""

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Its absolute path; None where an optional one is not wanted."""
        if not wanted(parameters.get(self.name), context):
            return None  # of the empty cell of a batch QGIS would make a layer to load
        return absolute(algorithm.parameterAsOutputLayer(parameters, self.name, context))


class OutputRaster(OutputLayer):
    """A raster to write."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A raster destination; an optional one is not made by default."""
        return QgsProcessingParameterRasterDestination(
            self.name, self.label, optional=self.optional, createByDefault=not self.optional
        )


class OutputVector(OutputLayer):
    """A layer of polygons to write."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A vector destination; an optional one is made by default in the dialog."""
        kind = QgsProcessing.SourceType.TypeVectorPolygon
        return QgsProcessingParameterVectorDestination(
            self.name, self.label, type=kind, optional=self.optional, createByDefault=True
        )


def absolute(path: str) -> Optional[str]:
    """A path from the root, because the worker runs in another folder; None for no path."""
    return str(Path(path).expanduser().absolute()) if path else None
