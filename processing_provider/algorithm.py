"""What all algorithms of Terrazzo share.

An algorithm file declares, always in this order: name, displayName, tags, summary, rows, outputs, read, check, work.
`read` turns parameters and layers into plain settings, on the thread QGIS chooses; `check` lets the engine say early
what cannot work; `work` does the job with them. What only these need is imported in them: QGIS loads the rest when it
starts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from osgeo import gdal, ogr, osr
from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputDefinition,
    QgsSettings,
)
from qgis.PyQt.QtCore import QCoreApplication, QTimer
from qgis.PyQt.QtGui import QIcon

from ..plugin import setup
from ..plugin.engine.config import JobConfig
from ..plugin.engine.errors import Cancelled, EngineError
from ..plugin.engine.events import Reporter
from ..plugin.metadata import guide
from .feedback import FeedbackReporter
from .layer_names import file_name
from .layer_parameters import Polygons, Raster, Rasters
from .layers import hidden_in_qgis, raster_layers
from .looks import FootprintStyle, GreyStyle, Look
from .parameters import Destination, Parameters, Row, ValueRow
from .places import check_closed, check_kept, place_wished, places_read
from .showing import dress, entitle, forget, keep_below, show_again

if TYPE_CHECKING:
    from qgis.PyQt.QtWidgets import QWidget

    from .features import FeatureSource

ICONS = Path(__file__).resolve().parent.parent / "resources" / "icons"
# The ids of groups, in the order of the work.
GROUPS = ("chips", "training", "mapping", "setup")
PYTHON_SETTING = "terrazzo/python"


def tr(text: str) -> str:
    """The text in the user's language, where there is a translation."""
    return QCoreApplication.translate("Terrazzo", text)


def icon_path(name: str) -> str:
    """The file of one of the plugin's icons."""
    return str(ICONS / f"{name}.svg")


def icon(name: str) -> QIcon:
    """One of the plugin's icons."""
    return QIcon(icon_path(name))


def python_setting() -> str:
    """The interpreter that the user chose for the worker; empty = Terrazzo searches."""
    return str(QgsSettings().value(PYTHON_SETTING, "") or "")


class TerrazzoAlgorithm(QgsProcessingAlgorithm):
    """An algorithm made of rows of parameters, a `read` and a `work`."""

    CONFIG: type[JobConfig]
    ID = ""  # in scripts and models; it stays
    NAME = ""  # in the Toolbox
    TAGS: tuple[str, ...] = ()  # words by which it is found there
    GROUP = ("", "")  # id, name
    KEEPS_BEST = False  # whether Cancel may keep what there is
    # The parameters beside whose file or folder the dialog proposes results, the first one that is given.
    NAMED_AFTER: tuple[str, ...] = ("INPUT",)

    def __init__(self) -> None:
        super().__init__()
        self._results: dict[str, Any] = {}
        self._looks: dict[str, Look] = {}  # of results, by their sources
        self._given: Parameters = {}

    # --- what each algorithm declares

    def summary(self) -> str:
        """What the algorithm does, in a few sentences."""
        raise NotImplementedError

    def rows(self) -> list[Row]:
        """The parameters, in the order of the dialog."""
        raise NotImplementedError

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """The outputs beside those that destinations bring."""
        return []

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """The settings of the job, but for its destinations; a `FeatureSource` stands for a file to be written.

        Raises:
            EngineError: Something given cannot be used.
        """
        return self.settings(parameters, context)

    def check(self, config: Any) -> None:
        """What the engine can say of the settings, which take destinations in, before the job begins.

        Raises:
            EngineError: Something cannot work.
        """

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Do the job and give every declared output.

        Raises:
            EngineError, Cancelled: As the engine has them.
        """
        raise NotImplementedError

    # --- what follows from it

    def createInstance(self) -> TerrazzoAlgorithm:
        """A new one of the same kind."""
        return type(self)()

    def name(self) -> str:
        """The id."""
        return self.ID

    def displayName(self) -> str:
        """The name in the Toolbox."""
        return tr(self.NAME)

    def tags(self) -> list[str]:
        """Words by which it is found."""
        return list(self.TAGS)

    def groupId(self) -> str:
        """The group's id."""
        return self.GROUP[0]

    def group(self) -> str:
        """The group in the Toolbox, which sorts by names: the number keeps the order of the work."""
        return f"{GROUPS.index(self.GROUP[0]) + 1} {tr(self.GROUP[1])}"

    def icon(self) -> QIcon:
        """The algorithm's own icon."""
        return icon(self.name())

    def svgIconPath(self) -> str:
        """The same as a file, for the model designer."""
        return icon_path(self.name())

    def helpUrl(self) -> str:
        """The part of the guide that tells of it."""
        return guide(f"{self.displayName()} ({self.name()})")

    def shortDescription(self) -> str:
        """The first sentence of the summary, for tooltips."""
        return self.summary().partition(". ")[0].rstrip(".")

    def shortHelpString(self) -> str:
        """The help beside the dialog: the summary, and what each parameter does."""
        lines = [f"<p>{escape(text, quote=False)}</p>" for text in self.summary().split("\n")]
        texts = [(escape(row.label, quote=False), escape(row.help, quote=False)) for row in self.rows()]
        # Not <b>, which QGIS's dialog draws in a grey that dark themes hide.
        lines += [f"<p><strong>{label}</strong><br>{text}</p>" for label, text in texts]
        return "\n".join(lines)

    def createCustomParametersWidget(self, parent: Optional[QWidget] = None) -> QWidget:
        """The dialog; here and not above, because `qgis_process` needs none."""
        from .dialog import Dialog

        return Dialog(self, parent=parent)

    def initAlgorithm(self, configuration: Any = None) -> None:
        """Declare parameters and outputs."""
        for row in self.rows():
            self.addParameter(row.build(self.CONFIG))
        for output in self.outputs():
            self.addOutput(output)

    def checkParameterValues(self, parameters: Parameters, context: QgsProcessingContext) -> tuple[bool, str]:
        """Say what is wrong while the dialog is still open; models do not ask, so `prepareAlgorithm` does again."""
        try:
            with gdal_errors():
                self._checked(self.read(parameters, context), parameters, context)
        except EngineError as error:
            return False, self.worded(str(error))
        return super().checkParameterValues(parameters, context)

    def worded(self, text: str) -> str:
        """A message of the engine in the words of the dialog."""
        from .wording import in_words_of

        return in_words_of(self, text)

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Errors of the engine become QGIS's, whose text the user reads."""
        try:
            yield
        except EngineError as error:
            raise QgsProcessingException(self.worded(str(error))) from error

    def prepareAlgorithm(
        self, parameters: Parameters, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        """Read everything that belongs to layers and settings."""
        with self.in_words(), gdal_errors():
            self._settings = self._checked(self.read(parameters, context), parameters, context)
            self._warn_of_layers(parameters, context, feedback)
        return True

    def processAlgorithm(
        self, parameters: Parameters, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Do the job; a cancelled one has no results."""
        from ..plugin.engine.drafts import scratch_folder

        reporter = FeedbackReporter(feedback, self.worded)
        self._given = parameters
        try:
            with self.in_words(), gdal_errors(), scratch_folder() as folder:
                settings = write_features(self._settings, folder, reporter)
                # Not earlier: on a task, QGIS forgets the layers to load that were named while preparing.
                wished = self.destinations(parameters, context)
                self._results = self.work({**settings, **wished}, context, reporter)
                forget({wished.get(name.lower()) for name, path in self._results.items() if path is None}, context)
                return self._results
        except Cancelled:
            return {}

    def postProcessAlgorithm(self, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> dict[str, Any]:
        """Let the layers of the project that show what was written show it as it is now."""
        show_again(self._results.values(), self._looks)
        return {}

    def show(self, source: Optional[str], name: str, look: Look, context: QgsProcessingContext) -> None:
        """Give a layer of the results its name and look; the look in the project as well, where its file is there."""
        if source:
            self._looks[source] = look
            entitle(source, name, self._given, context)
            dress(source, look, context)

    def show_probabilities(
        self, source: Optional[str], name: str, classes: Optional[str], context: QgsProcessingContext
    ) -> None:
        """Give a raster of probabilities its name and look; beside a raster of classes it waits below it, switched off.

        Args:
            source: The raster's; None where there is none.
            name: What the raster of classes is called.
            classes: The source of the raster of classes; None where there is none.
            context: QGIS's.
        """
        self.show(source, tr("{}, probabilities").format(name), GreyStyle(), context)
        if source and classes and context.willLoadLayerOnCompletion(classes):
            keep_below(source, classes, context)

    def show_footprints(self, dataset: str, context: QgsProcessingContext) -> str:
        """Ask QGIS to add the footprints of a dataset to the project; gives their source, and headless no more."""
        source = f"{Path(dataset) / 'chips.gpkg'}|layername=chips"
        name = file_name(dataset)
        title = tr("{}: chips").format(name) if name else tr("Chip footprints")
        details = QgsProcessingContext.LayerDetails(title, context.project(), "FOOTPRINTS")
        details.forceName = True  # by QGIS's default it would be that of the file, which all datasets have
        context.addLayerToLoadOnCompletion(source, details)
        self.show(source, title, FootprintStyle(), context)
        return source

    def _warn_of_layers(
        self, parameters: Parameters, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Name what raster layers show otherwise than their files hold it."""
        names = [row.name for row in self.rows() if isinstance(row, (Raster, Rasters))]
        for layer in (layer for name in names for layer in raster_layers(self, parameters, name, context)):
            text = hidden_in_qgis(layer)
            if text:
                feedback.pushWarning(text)

    def settings(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """The settings that parameters hold as they stand, without destinations."""
        fields = set(self.CONFIG.declared())
        return {name: value for name, value in self.values(parameters, context).items() if name in fields}

    def values(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """What parameters hold as it stands, by their names in lower case: settings, and what `read` makes such of."""
        return {
            row.name.lower(): row.value(self, parameters, context)
            for row in self.rows()
            if isinstance(row, ValueRow) and not isinstance(row, Destination)
        }

    def destinations(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """The paths to write; asked for once, because a temporary one gets a new name each time."""
        rows = (row for row in self.rows() if isinstance(row, Destination))
        return {row.name.lower(): row.value(self, parameters, context) for row in rows}

    def _checked(
        self, settings: dict[str, Any], parameters: Parameters, context: QgsProcessingContext
    ) -> dict[str, Any]:
        """The settings, once the config takes them and nothing is wrong that is known now."""
        plain = {**settings, **dict.fromkeys(feature_sources(settings), "")}
        rows = [row for row in self.rows() if isinstance(row, Destination)]
        wishes = {row.name.lower(): row.wished(self, parameters, context) for row in rows}
        config = self.CONFIG.from_json({**plain, **wishes})
        outputs = {row.name: place_wished(parameters.get(row.name), context) for row in rows}
        sources = [row.name for row in self.rows() if isinstance(row, Polygons)]
        if not getattr(config, "append", False):  # which replaces nothing
            check_kept(outputs, places_read(sources, parameters, context))
        check_closed(outputs, context.project())
        self.check(config)
        return settings


class ApartAlgorithm(TerrazzoAlgorithm):
    """An algorithm whose job runs in a process of its own, so that a crash there costs no project.

    QGIS's Python will do for it; only where there is none, the worker's is needed.
    """

    NEEDS_TORCH = False
    _python: str

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """The settings, once there is a Python that can do the job."""
        self._python = self.find_python()
        return self.settings(parameters, context)

    def find_python(self) -> str:
        """The Python to do the job.

        Raises:
            EngineError: There is none.
        """
        from ..plugin.environment import qgis_python, require_python

        return qgis_python() or require_python(python_setting()).path

    def run_worker(self, settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
        """The result of the job."""
        from ..plugin.environment import qgis_python
        from ..plugin.worker_process import run_job

        config = self.CONFIG.from_json(settings)
        with gdal_errors_paused():  # for hours it may be
            inherit = self._python == qgis_python() and not self.NEEDS_TORCH
            return run_job(self._python, self.name(), config.to_json(), reporter, inherit=inherit)


class WorkerAlgorithm(ApartAlgorithm):
    """An algorithm whose job runs in the worker, a Python with torch."""

    NEEDS_TORCH = True

    def canExecute(self) -> tuple[bool, str]:
        """Whether there is a Python for the worker; where there is none, the set-up opens beside the message.

        QGIS asks before it opens a dialog, but not in `qgis_process`, where `read` says the same.
        """
        from ..plugin.environment import is_set_up, require_python

        try:
            require_python(python_setting())
        except EngineError as error:
            if setup.open_window is None:
                return False, str(error)
            QTimer.singleShot(0, setup.open_window)
            if is_set_up(python_setting()):
                return False, str(error)
            return False, tr("Training and mapping are not set up yet: they need PyTorch. The set-up opens now.")
        return True, ""

    def find_python(self) -> str:
        """The worker's Python; raises as above."""
        from ..plugin.environment import require_python

        return require_python(python_setting()).path


def feature_sources(settings: dict[str, Any]) -> dict[str, FeatureSource]:
    """Those of the settings that are still to be written to files."""
    from .features import FeatureSource

    return {name: value for name, value in settings.items() if isinstance(value, FeatureSource)}


def write_features(settings: dict[str, Any], folder: Path, reporter: Reporter) -> dict[str, Any]:
    """The settings with a file for each `FeatureSource`, and what follows from its features."""
    written: dict[str, Any] = {}
    for source in feature_sources(settings).values():
        written.update(source.write(folder, reporter))
    return {**settings, **written}


class _GdalErrors:
    """Who needs GDAL to raise errors; other plugins in this process may rely on it not to.

    It has one setting for all threads, and the engine reads and writes on several.
    """

    lock = threading.Lock()
    users = 0
    switched: list[Any] = []  # noqa: RUF012 (shared on purpose)

    @classmethod
    def need(cls) -> None:
        """Switch it on for one user more."""
        with cls.lock:
            cls.users += 1
            if cls.users == 1:
                # The engine's modules switch it on as well when they are imported, which is always inside of this.
                cls.switched = [module for module in (gdal, ogr, osr) if not module.GetUseExceptions()]
                for module in cls.switched:
                    module.UseExceptions()

    @classmethod
    def release(cls) -> None:
        """One user less; after the last one all is as it was."""
        with cls.lock:
            cls.users -= 1
            if not cls.users:
                try:
                    # GDAL before 3.7 takes them back in the opposite order only.
                    for module in reversed(cls.switched):
                        module.DontUseExceptions()
                except RuntimeError:
                    pass  # another plugin has switched it on meanwhile, and that shall hold


@contextmanager
def gdal_errors() -> Iterator[None]:
    """Let GDAL raise errors, as the engine expects, and put its setting back after the last job that runs."""
    _GdalErrors.need()
    try:
        yield
    finally:
        _GdalErrors.release()


@contextmanager
def gdal_errors_paused() -> Iterator[None]:
    """Inside of `gdal_errors`: a while in which the job does without GDAL."""
    _GdalErrors.release()
    try:
        yield
    finally:
        _GdalErrors.need()
