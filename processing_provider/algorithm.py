"""The base classes of Terrazzo's Processing algorithms.

An algorithm file defines, always in this order: ID, NAME, TAGS, `summary`, `rows`, `outputs`, `read`, `check`, `work`.
`read` turns parameters and layers into plain settings, on the thread that QGIS calls it on; `check` lets the engine
report early what cannot work; `work` runs the job. Modules that only these three need are imported inside them, so that
QGIS does not load them at start-up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Optional, Union

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputDefinition,
)
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtGui import QIcon

from ..plugin import setup
from ..plugin.engine.config import JobConfig
from ..plugin.engine.errors import Cancelled, EngineError
from ..plugin.engine.events import Reporter
from ..plugin.icons import icon, icon_path
from ..plugin.metadata import guide
from ..plugin.python_setting import python_setting
from ..plugin.translation import tr
from .gdal_errors import gdal_errors, gdal_errors_paused
from .layer_parameters import Polygons, Raster, Rasters
from .parameters import Destination, Parameters, Row, ValueRow
from .places import check_closed, check_kept, place_wished, places_read

if TYPE_CHECKING:
    from qgis.PyQt.QtWidgets import QWidget

    from .features import FeatureSource
    from .looks import Look
    from .web_parts import WebInput

# The ids of the groups, in the order in which the algorithms are used.
GROUPS = ("chips", "training", "mapping", "setup")


class TerrazzoAlgorithm(QgsProcessingAlgorithm):
    """Base class of all algorithms: a list of parameter rows, a `read` and a `work`."""

    # All algorithms, set by the provider: messages may name parameters of any of them.
    ALL: ClassVar[tuple[type[TerrazzoAlgorithm], ...]] = ()
    CONFIG: type[JobConfig]
    ID = ""  # used by scripts and models, so it never changes
    NAME = ""  # shown in the Toolbox
    TAGS: tuple[str, ...] = ()  # keywords for the Toolbox's search
    GROUP = ("", "")  # id, name
    KEEPS_BEST = False  # whether the user can stop a run and keep its best result so far
    # Results are proposed beside the file or folder of the first of these parameters that is given.
    NAMED_AFTER: tuple[str, ...] = ("INPUT",)

    def __init__(self) -> None:
        super().__init__()
        self._results: dict[str, Any] = {}
        self._looks: dict[str, Look] = {}  # of results, by source
        self._given: Parameters = {}

    # --- what each algorithm declares

    def summary(self) -> str:
        """Describe the algorithm in a few sentences."""
        raise NotImplementedError

    def rows(self) -> list[Row]:
        """Return the parameters in the order of the dialog."""
        raise NotImplementedError

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """Return the outputs other than those that belong to destination parameters."""
        return []

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """Read the job's settings, without its destinations; a `FeatureSource` or `WebInput` stands for files that are
        still to be written.

        Raises:
            EngineError: Something given cannot be used.
        """
        return self.settings(parameters, context)

    def check(self, config: Any) -> None:
        """Check the settings, destinations included, before the job starts.

        Raises:
            EngineError: The job cannot work with them.
        """

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Run the job.

        Returns:
            The value of every declared output, by name.

        Raises:
            EngineError: The job failed.
            Cancelled: The user cancelled it.
        """
        raise NotImplementedError

    # --- what follows from it

    def createInstance(self) -> TerrazzoAlgorithm:
        """Return a new instance of the same class."""
        return type(self)()

    def name(self) -> str:
        """Return the id."""
        return self.ID

    def displayName(self) -> str:
        """Return the name shown in the Toolbox."""
        return tr(self.NAME)

    def tags(self) -> list[str]:
        """Return the keywords for the Toolbox's search."""
        return list(self.TAGS)

    def groupId(self) -> str:
        """Return the id of the group."""
        return self.GROUP[0]

    def group(self) -> str:
        """Return the name of the group; a number keeps the groups in the order of use, as the Toolbox sorts names."""
        return f"{GROUPS.index(self.GROUP[0]) + 1} {tr(self.GROUP[1])}"

    def icon(self) -> QIcon:
        """Return the algorithm's icon."""
        return icon(self.name())

    def svgIconPath(self) -> str:
        """Return the path of the icon, which the model designer needs."""
        return icon_path(self.name())

    def helpUrl(self) -> str:
        """Return the address of the algorithm's section in the guide."""
        return guide(f"{self.displayName()} ({self.name()})")

    def shortDescription(self) -> str:
        """Return the first sentence of the summary, which QGIS shows as a tooltip."""
        return self.summary().partition(". ")[0].rstrip(".")

    def shortHelpString(self) -> str:
        """Return the help shown beside the dialog: the summary, and what each parameter does."""
        lines = [f"<p>{escape(text, quote=False)}</p>" for text in self.summary().split("\n")]
        texts = [(escape(row.label, quote=False), escape(row.help, quote=False)) for row in self.rows()]
        # Not <b>: QGIS's dialog draws it in a grey that cannot be read in dark themes.
        lines += [f"<p><strong>{label}</strong><br>{text}</p>" for label, text in texts]
        return "\n".join(lines)

    def createCustomParametersWidget(self, parent: Optional[QWidget] = None) -> QWidget:
        """Return the dialog; imported here because `qgis_process` does not need it."""
        from .dialog import Dialog

        return Dialog(self, parent=parent)

    def initAlgorithm(self, configuration: Any = None) -> None:
        """Declare the parameters and outputs."""
        for row in self.rows():
            self.addParameter(row.build(self.CONFIG))
        for output in self.outputs():
            self.addOutput(output)

    def checkParameterValues(self, parameters: Parameters, context: QgsProcessingContext) -> tuple[bool, str]:
        """Report errors while the dialog is still open; models do not call this, so `prepareAlgorithm` checks again."""
        try:
            with gdal_errors():
                self._checked(self.read(parameters, context), parameters, context)
        except EngineError as error:
            return False, self.worded(str(error))
        return super().checkParameterValues(parameters, context)

    def worded(self, text: str) -> str:
        """Put the dialog's labels into a message of the engine."""
        from .wording import in_words_of

        return in_words_of(self, text)

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Turn errors of the engine into QGIS's own, whose text is shown to the user."""
        try:
            yield
        except EngineError as error:
            raise QgsProcessingException(self.worded(str(error))) from error

    def prepareAlgorithm(
        self, parameters: Parameters, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        """Read everything that depends on layers and settings."""
        with self.in_words(), gdal_errors():
            self._settings = self._checked(self.read(parameters, context), parameters, context)
            self._warn_of_layers(parameters, context, feedback)
        return True

    def processAlgorithm(
        self, parameters: Parameters, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run the job; a cancelled job has no results."""
        from ..plugin.engine.drafts import scratch_folder
        from .feedback import FeedbackReporter
        from .showing import forget

        reporter = FeedbackReporter(feedback, self.worded)
        self._given = parameters
        try:
            with self.in_words(), gdal_errors(), scratch_folder() as folder:
                settings = write_files(self._settings, folder, reporter)
                # Not earlier: when run as a task, QGIS forgets layers to load that were registered during preparation.
                wished = self.destinations(parameters, context)
                self._results = self.work({**settings, **wished}, context, reporter)
                forget({wished.get(name.lower()) for name, path in self._results.items() if path is None}, context)
                return self._results
        except Cancelled:
            return {}

    def postProcessAlgorithm(self, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> dict[str, Any]:
        """Reload the layers of the project whose files the job has written."""
        from .showing import show_again

        show_again(self._results.values(), self._looks)
        return {}

    def show(self, source: Optional[str], name: str, look: Look, context: QgsProcessingContext) -> None:
        """Name and style a layer of the results, and restyle it where the project already shows its file."""
        from .showing import dress, entitle

        if source:
            self._looks[source] = look
            entitle(source, name, self._given, context)
            dress(source, look, context)

    def show_probabilities(
        self, source: Optional[str], name: str, classes: Optional[str], context: QgsProcessingContext
    ) -> None:
        """Name and style a raster of probabilities.

        Beside a raster of classes it is placed below that one, switched off.

        Args:
            source: Source of the raster; None if it was not written.
            name: Name of the raster of classes.
            classes: Source of the raster of classes; None if it was not written.
            context: The processing context.
        """
        from .looks import GreyStyle
        from .showing import keep_below

        self.show(source, tr("{}, probabilities").format(name), GreyStyle(), context)
        if source and classes and context.willLoadLayerOnCompletion(classes):
            keep_below(source, classes, context)

    def show_footprints(self, dataset: str, context: QgsProcessingContext) -> str:
        """Ask QGIS to add the footprints of a dataset to the project, and return their source."""
        from .layer_names import dataset_name
        from .looks import FootprintStyle

        source = f"{Path(dataset) / 'chips.gpkg'}|layername=chips"
        name = dataset_name(dataset)
        title = tr("{}: chips").format(name) if name else tr("Chip footprints")
        details = QgsProcessingContext.LayerDetails(title, context.project(), "FOOTPRINTS")
        details.forceName = True  # otherwise QGIS would use the file's name, which is the same for all datasets
        context.addLayerToLoadOnCompletion(source, details)
        self.show(source, title, FootprintStyle(), context)
        return source

    def _warn_of_layers(
        self, parameters: Parameters, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Warn of raster layers that QGIS shows differently from what their files contain, and name servers."""
        from ..plugin.engine.strangers.addresses import host_asked
        from .layers import hidden_in_qgis, raster_layers
        from .web_layers import is_web

        names = [row.name for row in self.rows() if isinstance(row, (Raster, Rasters))]
        for layer in (layer for name in names for layer in raster_layers(self, parameters, name, context)):
            text = hidden_in_qgis(layer)
            if text:
                feedback.pushWarning(text)
            host = "" if is_web(layer) else host_asked(layer.source())
            if host:
                feedback.pushInfo(tr('The raster "{}" is read from the server {}.').format(layer.name(), host))

    def settings(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """Return the settings that parameters hold unchanged, without destinations."""
        fields = set(self.CONFIG.declared())
        return {name: value for name, value in self.values(parameters, context).items() if name in fields}

    def values(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """Return the values of all parameters but destinations, by their names in lower case."""
        return {
            row.name.lower(): row.value(self, parameters, context)
            for row in self.rows()
            if isinstance(row, ValueRow) and not isinstance(row, Destination)
        }

    def destinations(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """Return the paths to write; called once only, because a temporary path gets a new name each time."""
        rows = (row for row in self.rows() if isinstance(row, Destination))
        return {row.name.lower(): row.value(self, parameters, context) for row in rows}

    def _checked(
        self, settings: dict[str, Any], parameters: Parameters, context: QgsProcessingContext
    ) -> dict[str, Any]:
        """Check the settings with the config, the project's layers and the engine, and return them."""
        plain = {**settings, **{name: value.stand_in for name, value in unwritten(settings).items()}}
        rows = [row for row in self.rows() if isinstance(row, Destination)]
        wishes = {row.name.lower(): row.wished(self, parameters, context) for row in rows}
        config = self.CONFIG.from_json({**plain, **wishes})
        outputs = {row.name: place_wished(parameters.get(row.name), context) for row in rows}
        sources = [row.name for row in self.rows() if isinstance(row, Polygons)]
        if not getattr(config, "append", False):  # appending replaces nothing
            check_kept(outputs, places_read(sources, parameters, context))
        check_closed(outputs, context.project())
        self.check(config)
        return settings


class ApartAlgorithm(TerrazzoAlgorithm):
    """Base class of algorithms whose job runs in a separate process, so that a crash there does not end QGIS.

    The job runs with QGIS's own Python if that can be found, otherwise with the worker's.
    """

    NEEDS_TORCH = False
    _python: str

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """Read the settings, after finding a Python that can run the job."""
        self._python = self.find_python()
        return self.settings(parameters, context)

    def find_python(self) -> str:
        """Find the Python that runs the job.

        Raises:
            EngineError: No suitable Python was found.
        """
        from ..plugin.worker_python import qgis_python, require_python

        return qgis_python() or require_python(python_setting()).path

    def run_worker(self, settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
        """Run the job in its process and return the result."""
        from ..plugin.proxy import qgis_proxy
        from ..plugin.worker_process import run_job
        from ..plugin.worker_python import qgis_python

        config = self.CONFIG.from_json(settings)
        with gdal_errors_paused():  # the job may run for hours
            inherit = self._python == qgis_python() and not self.NEEDS_TORCH
            given = config.to_json()
            return run_job(self._python, self.name(), given, reporter, inherit=inherit, variables=qgis_proxy())


class WorkerAlgorithm(ApartAlgorithm):
    """Base class of algorithms whose job runs in the worker, a Python with torch."""

    NEEDS_TORCH = True

    def canExecute(self) -> tuple[bool, str]:
        """Return whether a Python for the worker was found; if not, the set-up opens together with the message.

        QGIS calls this before it opens a dialog, but `qgis_process` does not; there `read` reports the same.
        """
        from ..plugin.worker_python import is_set_up, require_python

        try:
            require_python(python_setting())
        except EngineError as error:
            if setup.open_window is None:
                return False, str(error)
            QTimer.singleShot(0, setup.open_window)
            if is_set_up(python_setting()):
                return False, str(error)
            return False, tr("Training and mapping need PyTorch, which is not set up yet. The set-up opens now.")
        return True, ""

    def find_python(self) -> str:
        """Find the worker's Python."""
        from ..plugin.worker_python import require_python

        return require_python(python_setting()).path


def unwritten(settings: dict[str, Any]) -> dict[str, Union[FeatureSource, WebInput]]:
    """Return the settings that are files still to be written: features first, because tiles take long."""
    from .features import FeatureSource
    from .web_parts import WebInput

    kinds = (FeatureSource, WebInput)
    return {name: value for kind in kinds for name, value in settings.items() if isinstance(value, kind)}


def write_files(settings: dict[str, Any], folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Write the files of `unwritten` settings, and return the settings with them and with what they define."""
    written: dict[str, Any] = {}
    for source in unwritten(settings).values():
        written.update(source.write(folder, reporter))
    return {**settings, **written}
