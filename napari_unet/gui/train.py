"""The Train dock: start, pause and stop learning, watch it, and choose what to keep."""

from __future__ import annotations

import time
from collections.abc import Callable

import napari
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QCheckBox, QFormLayout, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_unet.config import TrainConfig
from napari_unet.gui.curve import Curve
from napari_unet.gui.forms import ConfigForm, Folded
from napari_unet.gui.jobs import Failure
from napari_unet.gui.model_choice import IN_USE, ModelChoice
from napari_unet.gui.parts import beside, combo, follow, named, push, text
from napari_unet.gui.workspace import Workspace
from napari_unet.run import BadInput
from napari_unet.script import script_of
from napari_unet.session import Machine

CURVE_LINES = 12  # of text, in height
DRAW_MS = 300  # between two drawings of what training says
ADVANCED = (
    "arch", "width", "depth", "grain", "attention", "residual", "rate", "batch", "patch", "augment",
    "loss", "balance", "second_opinion", "holdout", "patience", "device", "precision", "seed",
)  # fmt: skip
LABELS = {
    "arch": "Architecture",
    "attention": "Attention gates",
    "residual": "Residual blocks",
    "rate": "Learning rate",
    "augment": "Augmentation",
    "balance": "Balance the classes",
    "holdout": "Held out",
}
READY = "Ready: press Start, and go on painting."
KEEP = {"best": "The best", "last": "The last", "before": "The model before"}


class TrainDock(QWidget):
    """How learning goes."""

    def __init__(self, napari_viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._work = Workspace.of(napari_viewer)
        self._failure = ""
        self._make_widgets()
        self._lay_out()
        self._draw_timer = QTimer(self)
        self._draw_timer.timeout.connect(self._draw)
        self._connect()
        self._on_session_model_changed()
        self._fill_keep()
        if self._work.session.training:
            self._draw_timer.start(DRAW_MS)
        self._draw()

    # --- widgets ---

    def _make_widgets(self) -> None:
        session = self._work.session
        self._from = named(ModelChoice(with_new=True), "train.start_from", "What to start from")
        self._start = push("Start", "train.start", "Learn from what is painted, and go on painting")
        self._pause = push("Pause", "train.pause", "Wait; nothing is forgotten")
        self._stop = push("Stop", "train.stop", "End this run and keep the best")
        self._live = named(
            QCheckBox("Show the mask while it learns"),
            "train.live",
            "Lay over the image what it makes of the part on the screen, again and again",
        )
        self._live.setChecked(session.look.on)
        self._auto = named(
            QCheckBox("Start by itself"),
            "train.auto",
            "Start as soon as two kinds of strokes are painted",
        )
        self._status = text("train.status")
        self._advice = text("train.advice")
        self._curve = named(Curve(), "train.curve")
        self._curve.setFixedHeight(CURVE_LINES * self.fontMetrics().height())
        self._kept = text("train.kept")
        self._copy = push(
            "Copy as script",
            "train.copy",
            "Copy a Python script and a command that repeat the run without a window",
        )
        self._keep = combo("train.keep", "Which weights of the last run to use and keep")
        self._device = text("train.device")
        self._volumes = named(
            QCheckBox("Learn stacks as volumes (3-D)"),
            "train.volumes",
            "With a 3-D network instead of slice by slice: slower, and it sees depth",
        )
        self._volumes.setChecked(session.volumes)
        self._form = ConfigForm(TrainConfig, ADVANCED, "train", LABELS)
        self._form.setValue(session.config)

    def _lay_out(self) -> None:
        inside = QWidget()
        advanced = QVBoxLayout(inside)
        advanced.setContentsMargins(0, 0, 0, 0)
        advanced.addWidget(self._volumes)
        advanced.addWidget(self._form)
        self._keep_row = QWidget()
        keep = QFormLayout(self._keep_row)
        keep.setContentsMargins(0, 0, 0, 0)
        keep.addRow("Keep", self._keep)
        keep.addRow(self._kept)
        keep.addRow(self._copy)
        start = QFormLayout()
        start.addRow("Start from", self._from)
        outer = QVBoxLayout(self)
        outer.addLayout(start)
        outer.addLayout(beside(self._start, self._pause, self._stop))
        outer.addWidget(self._live)
        outer.addWidget(self._auto)
        for widget in (self._status, self._advice, self._curve, self._keep_row, self._device):
            outer.addWidget(widget)
        outer.addWidget(Folded("Advanced", inside, "unet.train.advanced"))
        outer.addStretch(1)

    def _connect(self) -> None:
        session = self._work.session
        self._start.clicked.connect(self._on_start_clicked)
        self._pause.clicked.connect(self._on_pause_clicked)
        self._stop.clicked.connect(self._on_stop_clicked)
        self._live.toggled.connect(self._work.show_live)
        self._auto.toggled.connect(self._on_annotation_changed)
        self._copy.clicked.connect(self._on_copy_clicked)
        self._keep.activated.connect(self._on_keep_activated)
        self._volumes.toggled.connect(self._on_volumes_toggled)
        self._form.valueChanged.connect(self._on_form_changed)
        for signal, slot in (
            (session.annotation_changed, self._on_annotation_changed),
            (session.model_changed, self._on_session_model_changed),
            (session.config_changed, self._on_session_config_changed),
            (self._work.kept, self._draw),
            (self._work.keeping.changed, self._draw),
            (self._work.run_started, self._on_work_run_started),
            (self._work.run_ended, self._on_work_run_ended),
            (self._work.live_changed, self._on_work_live_changed),
        ):
            follow(self, signal, slot)

    # --- what is asked ---

    def _on_start_clicked(self) -> None:
        if self._work.session.progress.phase == "paused":
            self._work.session.resume()
        else:
            self._try(self._begin)
        self._draw()

    def _begin(self) -> None:
        chosen = self._from.value()
        self._work.start_training(self._work.session.model if chosen == IN_USE else chosen)

    def _on_pause_clicked(self) -> None:
        self._work.session.pause()
        self._draw()

    def _on_stop_clicked(self) -> None:
        self._work.stop_training()
        self._draw()

    def _on_work_live_changed(self, on: bool) -> None:
        self._live.setChecked(on)

    def _on_keep_activated(self) -> None:
        self._work.keep(self._keep.currentData())

    def _on_copy_clicked(self) -> None:
        session, project = self._work.session, self._work.keeping.project
        if session.outcome is None or project is None:
            return
        card = session.outcome.last.card
        config = TrainConfig.model_validate(card.training | {"grain": card.net.grain})
        steps = card.current.steps if card.current else 1
        script = script_of(project.folder, card.name, config, steps, self._work.began_from)
        QApplication.clipboard().setText(script)
        self._kept.setText("The script is in the clipboard; paste it into an editor or a shell.")

    def _on_volumes_toggled(self, volumes: bool) -> None:
        self._work.session.volumes = volumes

    def _on_form_changed(self, values: dict) -> None:
        session = self._work.session
        session.config = session.config.model_copy(update=values)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except BadInput as error:
            self._failure = str(error)

    # --- what happens ---

    def _on_annotation_changed(self) -> None:
        session = self._work.session
        wanted = self._auto.isChecked() and self._is_open()
        if wanted and session.ready and not session.training:
            self._on_start_clicked()
        self._draw()

    def _is_open(self) -> bool:
        """Whether its dock is; one that was closed may live on for as long as Python holds it."""
        return self._work.parent() in (self.window(), self.window().parent())

    def _on_session_config_changed(self) -> None:
        with signals_blocked(self._form):
            self._form.setValue(self._work.session.config)

    def _on_session_model_changed(self) -> None:
        model = self._work.session.model
        self._from.set_in_use(None if model is None else model.card.name)

    def _on_work_run_started(self) -> None:
        self._failure = ""
        self._curve.clear()
        self._draw_timer.start(DRAW_MS)
        self._draw()

    def _on_work_run_ended(self, failure: Failure | None) -> None:
        self._draw_timer.stop()
        self._failure = failure.sentence if failure else ""
        self._draw()
        self._fill_keep()

    def _fill_keep(self) -> None:
        outcome = self._work.session.outcome
        self._keep.clear()
        for which, words in KEEP.items() if outcome else ():
            model = getattr(outcome, which)
            if model is not None:
                dice = model.card.current.dice if model.card.current else None
                score = "" if dice is None else f" (held-out Dice {dice:.2f})"
                self._keep.addItem(words + score, which)

    # --- drawing ---

    def _draw(self) -> None:
        session = self._work.session
        progress = session.progress
        phase = progress.phase
        with signals_blocked(self._volumes):
            self._volumes.setChecked(session.volumes)
        self._start.setText("Resume" if phase == "paused" else "Start")
        ready = session.ready or bool(self._work.keeping.learned.next_run)
        self._start.setEnabled(phase in ("idle", "done", "paused") and ready)
        self._pause.setEnabled(phase in ("learning", "resting"))
        self._stop.setEnabled(phase in ("starting", "learning", "resting", "paused"))
        self._keep_row.setVisible(phase == "done" and session.outcome is not None)
        said = READY if phase == "idle" and ready else progress.say(time.monotonic())
        self._status.setText(self._failure or said)
        advice = progress.advice(session.counts, [c.name for c in session.classes])
        if phase == "idle" and (ready != session.ready or not any(session.counts)):
            advice = []  # the status says it
        self._advice.setText("\n".join(advice))
        self._advice.setVisible(bool(advice))
        self._device.setText(_computing(session.machine))
        self._device.setVisible(session.machine is not None)
        kept = self._work.kept_as
        self._kept.setText(f"It is in the library as '{kept}'; the Models dock shows it.")
        self._kept.setVisible(kept is not None)
        self._draw_curve()

    def _draw_curve(self) -> None:
        progress = self._work.session.progress
        self._curve.setVisible(bool(progress.losses))
        if progress.losses:
            steps, losses = zip(*progress.losses, strict=True)
            self._curve.setLosses(steps, losses)
        if progress.scores:
            steps, dice = zip(*progress.scores, strict=True)
            self._curve.setScores(steps, dice, progress.best)


def _computing(machine: Machine | None) -> str:
    """What computes; where it is no GPU, why, and what to do."""
    if machine is None:
        return ""
    why = machine.why_no_gpu
    return f"Computing on: {machine.device}." + (f" {why[:1].upper()}{why[1:]}" if why else "")
