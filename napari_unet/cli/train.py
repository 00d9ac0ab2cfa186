"""Train a model on images and their masks, or on a project."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.cli.pairs import add_meaning, read_pairs, said_meaning
from napari_unet.cli.parts import command, flags, report_as_json, say, settings, stops_on_interrupt
from napari_unet.run import (
    BadInput,
    Control,
    Event,
    Noticed,
    Rested,
    Scored,
    Started,
    Stepped,
    Trained,
)

if TYPE_CHECKING:
    from napari_unet.annotation import TrainingSet
    from napari_unet.library import Model


TRAIN_FLAGS = (
    "seconds", "steps", "arch", "width", "depth", "grain", "attention", "residual", "batch",
    "patch", "rate", "decay", "augment", "loss", "balance", "second_opinion", "border", "holdout",
    "patience", "device", "precision", "seed",
)  # fmt: skip
OF_MASKS = ("sparse", "classes", "map", "objects", "slices", "axes")  # and not of projects


def add_train(commands: Any) -> None:
    """Offer the command `train`."""
    from napari_unet.config import TrainConfig

    parser = command(
        commands, "train", _train,
        "Train a model on images and their masks; Ctrl-C stops and keeps the best.",
    )  # fmt: skip
    parser.add_argument("images", type=Path, help="An image, a folder of images, or a project")
    parser.add_argument(
        "masks", type=Path, nargs="?",
        help="A mask or a folder of masks, matched by name; a project has its own",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="Folder (or .zip) for the model")
    parser.add_argument(
        "--sparse", action="store_true",
        help="Masks are strokes: 0 not labelled, 255 background; without it they are complete",
    )  # fmt: skip
    parser.add_argument(
        "--init", default="auto", help="auto or random for new weights, or a model to go on from"
    )
    parser.add_argument("--classes", help="Names of the classes, separated by commas")
    add_meaning(parser, "masks")
    parser.add_argument("--slices", action="store_true", help="Train on the planes of stacks")
    parser.add_argument("--axes", help="Axes of the images if they cannot be told, such as ZYX")
    parser.add_argument(
        "--checkpoint", type=Path, help="Keep the state here; go on from it if it is there"
    )
    flags(parser, TrainConfig, TRAIN_FLAGS)
    parser.add_argument("--json", action="store_true", help="Print every event as a line of JSON")


def _train(arguments: argparse.Namespace) -> int:
    from napari_unet.api import finish, first_weights
    from napari_unet.atomic import refuse_unwritable
    from napari_unet.config import TrainConfig
    from napari_unet.library import check_place
    from napari_unet.training import train

    config = settings(TrainConfig, arguments, TRAIN_FLAGS)
    check_place(arguments.out)
    _refuse_zip(arguments.out)
    refuse_unwritable(arguments.out)
    if arguments.checkpoint:
        refuse_unwritable(arguments.checkpoint)
    training_set, introduction = _understood(arguments, config.border)
    start = first_weights(arguments.init)
    control = Control()
    report = TrainReport(config.steps, introduction, as_json=arguments.json)
    events = train(
        config, training_set, control,
        start=start, checkpoint=arguments.checkpoint, name=arguments.out.stem,
    )  # fmt: skip
    handed: list[Model] = []

    def watch(event: Event) -> None:
        report(event)
        if isinstance(event, Trained) and event.step:
            handed.append(event.model)

    with stops_on_interrupt(control):
        try:
            model = finish(events, control, watch)
        except BadInput as error:
            if not handed:
                raise
            path = _saved(handed[0], arguments.out).resolve()
            raise BadInput(f"{error} What was learned until then is in {path}.") from None
        if model.card.current and not model.card.current.steps:
            why = "stopped" if control.stopped else f"over, after --seconds {config.seconds:g},"
            raise BadInput(
                f"Training was {why} before its first step and no model was written; give it "
                "more time."
            )
        path = _saved(model, arguments.out).resolve()
        say(f"The model is in {path}{_earlier(model)}")
        if arguments.json:
            print(json.dumps({"event": "written", "path": str(path)}), flush=True)
    return 0


def _refuse_zip(out: Path) -> None:
    """Refuse the place of a model that would be gone, where a folder keeps it as a version."""
    from napari_unet.cards import is_zip

    if is_zip(out) and out.exists():
        raise BadInput(
            f"{out} is a model already, and a zip keeps no earlier versions; give another name, or "
            "a folder, which does."
        )


def _earlier(model: Model) -> str:
    """What is said where there was a model before."""
    *before, newest = model.card.versions
    if not before:
        return ""
    best = max(before, key=lambda v: v.dice or 0.0)
    judged = f" (version {best.number}: held-out Dice {best.dice:.3f})" if best.dice else ""
    return f" as version {newest.number}; the versions before are kept in it{judged}"


def _saved(model: Model, out: Path) -> Path:
    """Write the model; where that fails by now, to a temporary folder, so that it is not lost."""
    import tempfile

    try:
        return model.save(out)
    except BadInput as error:
        rescue = Path(tempfile.gettempdir()) / f"napari-unet-{os.getpid()}"
        try:
            model.save(rescue)
        except BadInput:
            raise error from None
        raise BadInput(f"{error} The trained model is kept in {rescue}") from None


def _understood(arguments: argparse.Namespace, border: float) -> tuple[TrainingSet, list[str]]:
    """Images and masks as a training set, and how they were understood, in lines."""
    from napari_unet.api import project_set
    from napari_unet.config import BACKGROUND
    from napari_unet.records import is_project
    from napari_unet.teaching import make_training_set

    if arguments.masks is None and not is_project(arguments.images):
        raise BadInput(
            f"{arguments.images} is no project; give the masks of these images as well, or the "
            "folder of a project."
        )
    if arguments.masks is None:
        given = next((name for name in OF_MASKS if getattr(arguments, name)), None)
        if given is not None:
            raise BadInput(
                f"--{given} is about masks in files; a project says itself what is painted in it."
            )
        training_set = project_set(arguments.images)
        return training_set, [f"a project with {len(training_set.items)} painted images or planes"]
    pairs = read_pairs(arguments.images, arguments.masks, arguments.axes)
    training_set, mapping = make_training_set(
        pairs,
        sparse=arguments.sparse,
        classes=_parse_classes(arguments.classes) if arguments.classes else None,
        mapping=said_meaning(arguments),
        objects=arguments.objects or None,
        slices=arguments.slices,
        border=border,
    )
    strokes = (
        ", and --sparse says that they are strokes" if mapping.values.get(BACKGROUND) == 0 else ""
    )
    hint = f"(--map corrects this{strokes})"
    masks = [] if arguments.sparse else [f"masks: {mapping.describe()} {hint}"]
    more = [f"and {len(pairs) - 3} more"] * (len(pairs) > 3)
    return training_set, masks + [image.describe() for image, _ in pairs[:3]] + more


def _parse_classes(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise BadInput(f"--classes {text}: a name is empty; give names such as nucleus,membrane.")
    return names


class TrainReport:
    """Training as a bar on a terminal, as lines where there is none, or as lines of JSON."""

    def __init__(
        self, steps: int | None, introduction: Sequence[str] = (), as_json: bool = False
    ) -> None:
        from tqdm import tqdm

        self.introduction, self.as_json = introduction, as_json
        self.bar = tqdm(total=steps, unit=" steps", disable=as_json or None, leave=False)
        self.dice = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):  # from here on nothing is refused, so talk is welcome
            for line in self.introduction:
                self._line(line)
        if self.as_json:
            report_as_json(event)
        else:
            self._show(event)

    def _show(self, event: Event) -> None:
        if isinstance(event, Stepped):
            self.bar.update(event.step - self.bar.n)
            self.bar.set_postfix_str(f"loss {event.loss:.3f}{self.dice}", refresh=False)
        elif isinstance(event, Scored):
            self.dice = f", held-out Dice {event.dice:.3f}"
            if self.bar.disable and event.best:
                say(f"step {event.step}, {event.seconds:.0f} s: held-out Dice {event.dice:.3f}")
        elif isinstance(event, Started):
            self._line(
                f"learning from {event.images} image(s), {event.labelled:,} labelled pixels of "
                f"which {event.held_out:,} are held out, on {event.device} in {event.precision}"
            )
        elif isinstance(event, Noticed):
            self._line(event.message)
        elif isinstance(event, Rested):
            self._line(f"no longer improves after {event.step} steps")
        elif isinstance(event, Trained):
            self.bar.close()
            judged = "" if event.dice is None else f", held-out Dice {event.dice:.3f}"
            say(f"{event.step} steps in {event.seconds:.0f} s{judged}")

    def _line(self, text: str) -> None:
        self.bar.clear()
        say(text)
