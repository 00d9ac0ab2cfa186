"""The command line: train, predict, evaluate, models, info and demo, with bars or JSON lines."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from napari_unet import __version__
from napari_unet.run import (
    BadInput,
    Control,
    Event,
    Noticed,
    Rested,
    Scored,
    Started,
    Stepped,
    Tiled,
    Trained,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from napari_unet.annotation import Mapping, TrainingSet
    from napari_unet.io import Image
    from napari_unet.library import Model

# Everything heavy is imported inside the command that needs it: --help must answer at once.

REFUSED, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 for success, 2 for bad input with one line on standard error."""
    try:
        arguments = _parser().parse_args(argv)
        status: int | None = arguments.run(arguments)
        sys.stdout.flush()
        return status or 0
    except BadInput as error:
        return _refuse(str(error))
    except BrokenPipeError:  # the reader of our output went away, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # of a path that nobody foresaw
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{where}{error.strerror or error}; check the path and try again.")
    except KeyboardInterrupt:
        _say("Given up; nothing more is written.")
        return INTERRUPTED


def _refuse(reason: str) -> int:
    _say(f"napari-unet: {' '.join(reason.split())}")
    return REFUSED


class _Parser(argparse.ArgumentParser):
    """A parser that refuses in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; '{self.prog} --help' lists what can be given.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="napari-unet", description="A U-Net that learns from a handful of annotations."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_open(commands)
    _add_train(commands)
    _add_predict(commands)
    _add_evaluate(commands)
    _add_models(commands)
    _add_info(commands)
    return parser


def _command(commands: Any, name: str, run: Callable[..., int | None], text: str) -> Any:
    parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def _flags(parser: Any, model: Any, names: Sequence[str]) -> None:
    """Options made from the fields of a settings class: their help and default are the field's."""
    for name in names:
        field = model.model_fields[name]
        kind, default = field.annotation, field.default
        options: dict[str, Any] = {"help": field.description, "default": default}
        if kind is bool:
            options["action"] = "store_true"
        elif "Literal" in str(kind):
            options["choices"] = kind.__args__
        else:
            options["type"] = next(t for t in (int, float, str) if t.__name__ in str(kind))
            options["metavar"] = {int: "N", float: "X", str: "NAME"}[options["type"]]
        if default is not None and kind is not bool:
            options["help"] += f" (default {default})"
        parser.add_argument(f"--{name.replace('_', '-')}", **options)


def _settings(model: Any, arguments: argparse.Namespace, names: Sequence[str]) -> Any:
    """The settings that the options ask for; a wrong value is told in a sentence."""
    from napari_unet.api import make_settings

    return make_settings(model, {name: getattr(arguments, name) for name in names}, "--")


# --- train ---

TRAIN_FLAGS = (
    "seconds", "steps", "arch", "width", "depth", "attention", "residual", "batch", "patch", "rate",
    "decay", "augment", "loss", "balance", "border", "holdout", "patience", "device", "precision",
    "seed",
)  # fmt: skip


def _add_train(commands: Any) -> None:
    from napari_unet.config import TrainConfig

    parser = _command(
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
    parser.add_argument("--init", default="auto", help="auto, random, starter or a model")
    parser.add_argument("--classes", help="Names of the classes, separated by commas")
    parser.add_argument(
        "--map", help="What mask values mean, as 0=0,128=1,255=2 with 0 for background"
    )
    parser.add_argument("--objects", action="store_true", help="Mask values are objects")
    parser.add_argument("--slices", action="store_true", help="Train on the planes of stacks")
    parser.add_argument("--axes", help="Axes of the images if they cannot be told, such as ZYX")
    parser.add_argument(
        "--checkpoint", type=Path, help="Keep the state here; go on from it if it is there"
    )
    _flags(parser, TrainConfig, TRAIN_FLAGS)
    parser.add_argument("--json", action="store_true", help="Print every event as a line of JSON")


def _train(arguments: argparse.Namespace) -> int:
    from napari_unet.api import finish, first_weights
    from napari_unet.atomic import refuse_unwritable
    from napari_unet.config import TrainConfig
    from napari_unet.library import check_place
    from napari_unet.training import train

    config = _settings(TrainConfig, arguments, TRAIN_FLAGS)
    check_place(arguments.out)
    refuse_unwritable(arguments.out)
    if arguments.checkpoint:
        refuse_unwritable(arguments.checkpoint)
    training_set, introduction = _understood(arguments, config.border)
    start = first_weights(arguments.init)
    control = Control()
    report = _TrainReport(config.steps, introduction, as_json=arguments.json)
    events = train(
        config, training_set, control,
        start=start, checkpoint=arguments.checkpoint, name=arguments.out.stem,
    )  # fmt: skip
    with _stops_on_interrupt(control):
        model = finish(events, control, report)
        if model.card.current and not model.card.current.steps:
            why = "stopped" if control.stopped else f"over, after --seconds {config.seconds:g},"
            raise BadInput(
                f"Training was {why} before its first step and no model was written; give it "
                "more time."
            )
        _say(f"The model is in {_saved(model, arguments.out).resolve()}")
    return 0


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
    from napari_unet.api import make_training_set, project_set
    from napari_unet.config import BACKGROUND
    from napari_unet.records import is_project

    if arguments.masks is None and not is_project(arguments.images):
        raise BadInput(
            f"{arguments.images} is no project; give the masks of these images as well, or the "
            "folder of a project."
        )
    if arguments.masks is None:
        training_set = project_set(arguments.images)
        return training_set, [f"a project with {len(training_set.items)} painted images or planes"]
    pairs = read_pairs(arguments.images, arguments.masks, arguments.axes)
    training_set, mapping = make_training_set(
        pairs,
        sparse=arguments.sparse,
        classes=_parse_classes(arguments.classes) if arguments.classes else None,
        mapping=_parse_map(arguments.map) if arguments.map else None,
        objects=arguments.objects or None,
        slices=arguments.slices,
        border=border,
    )
    strokes = (
        ", and --sparse says that they are strokes" if mapping.values.get(BACKGROUND) == 0 else ""
    )
    hint = f"(--map corrects this{strokes})"
    masks = [] if arguments.sparse else [f"masks: {mapping.describe()} {hint}"]
    return training_set, masks + [image.describe() for image, _ in pairs[:3]]


def read_pairs(images: Path, masks: Path, axes: str | None) -> list[tuple[Image, np.ndarray]]:
    """Images with their masks, matched by name."""
    from napari_unet.api import read_masks
    from napari_unet.io import read_image

    paths = _matched(images, masks)
    labels = read_masks([mask for _, mask in paths])
    return [(read_image(i, axes), m) for (i, _), m in zip(paths, labels, strict=True)]


def _matched(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """One image with one mask whatever their names, or those of two folders by name."""
    from napari_unet.io import list_images, match_pairs

    first, second = list_images(images), list_images(masks)
    if first == [images] and second == [masks]:
        return [(images, masks)]
    _refuse_twins(first)
    return match_pairs(first, second)


def _refuse_twins(paths: list[Path]) -> None:
    """Refuse images that only their suffix tells apart: mask and result could be of either."""
    from napari_unet.io import stem

    seen: dict[str, Path] = {}
    for path in paths:
        twin = seen.setdefault(stem(path), path)
        if twin != path:
            raise BadInput(f"{twin} and {path} are images of the same name; rename one of them.")


def _parse_classes(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise BadInput(f"--classes {text}: a name is empty; give names such as nucleus,membrane.")
    return names


def _parse_map(text: str) -> Mapping:
    from napari_unet.annotation import Mapping

    try:
        values = {int(k): int(v) for k, v in (pair.split("=") for pair in text.split(","))}
    except ValueError:
        raise BadInput(f"--map {text}: give pairs such as 0=0,255=1.") from None
    if any(not 0 <= c <= 254 for c in values.values()):
        raise BadInput(f"--map {text}: classes are 1..254 and 0 is background; give such numbers.")
    return Mapping(values)


class _TrainReport:
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
            _json_report(event)
        else:
            self._show(event)

    def _show(self, event: Event) -> None:
        if isinstance(event, Stepped):
            self.bar.update(event.step - self.bar.n)
            self.bar.set_postfix_str(f"loss {event.loss:.3f}{self.dice}", refresh=False)
        elif isinstance(event, Scored):
            self.dice = f", held-out Dice {event.dice:.3f}"
            if self.bar.disable and event.best:
                _say(f"step {event.step}, {event.seconds:.0f} s: held-out Dice {event.dice:.3f}")
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
            _say(f"{event.step} steps in {event.seconds:.0f} s{judged}")

    def _line(self, text: str) -> None:
        self.bar.clear()
        _say(text)


def _json_report(event: Event) -> None:
    """One event as one line of JSON, without what is large."""
    large = ("model", "last", "region", "result")
    values = {k: v for k, v in vars(event).items() if k not in large}
    print(json.dumps({"event": type(event).__name__.lower(), **values}), flush=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _stops_on_interrupt(control: Control) -> Iterator[None]:
    """The first Ctrl-C stops the engine between two steps, the second at once."""

    def stop(_signal: int, _frame: Any) -> None:
        _say("\nStopping; the best so far is kept. Ctrl-C again gives up.")
        control.stop()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# --- predict ---

PREDICT_FLAGS = ("tile", "flips", "device", "precision", "probabilities", "uncertainty")
# Those of `export.FORMATS`, named here so that --help need not import what writes them.
FORMATS = (
    "tif", "ome.tif", "png", "npy", "ome.zarr", "zarr", "nii.gz", "nii", "seg.nrrd", "nrrd", "dcm",
    "geojson", "coco.json", "roi.zip", "csv",
)  # fmt: skip


def _add_predict(commands: Any) -> None:
    from napari_unet.config import PredictConfig

    parser = _command(commands, "predict", _predict, "Write the masks of images.")
    parser.add_argument("model", help="A model folder, a zip of one, or a name in the library")
    parser.add_argument("images", type=Path, help="An image, a folder of images, or a project")
    parser.add_argument(
        "--out", type=Path, required=True,
        help="Folder for the masks; for one image also a file such as mask.geojson",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=FORMATS, metavar="NAME",
        help=f"File format of masks: {', '.join(FORMATS)} (default tif)",
    )  # fmt: skip
    parser.add_argument("--instances", action="store_true", help="Number separate objects")
    parser.add_argument("--axes", help="Axes of the images if they cannot be told, such as ZYX")
    parser.add_argument("--overwrite", action="store_true", help="Replace masks that are there")
    _flags(parser, PredictConfig, PREDICT_FLAGS)
    parser.add_argument("--json", action="store_true", help="Print every event as a line of JSON")


def _predict(arguments: argparse.Namespace) -> int:
    from napari_unet.config import PredictConfig
    from napari_unet.io import read_image
    from napari_unet.library import load_model

    config = _settings(PredictConfig, arguments, PREDICT_FLAGS)
    model = load_model(arguments.model)
    paths = _images_of(arguments.images)
    _refuse_twins(paths)
    one_file = _one_file(paths, arguments)
    outputs = [_outputs(path, arguments, one_file) for path in paths]
    control = Control()
    with _stops_on_interrupt(control):
        for path, files in zip(paths, outputs, strict=True):
            image = read_image(path, arguments.axes)
            _predict_one(model, image, config, control, files, arguments)
            if control.stopped:
                _say(f"Stopped; the masks of the images before {path.name} are in {arguments.out}")
                return INTERRUPTED
    _say(f"The mask{' is' if one_file else 's are'} in {arguments.out.resolve()}")
    return 0


def _one_file(images: list[Path], arguments: argparse.Namespace) -> Path | None:
    """The file for the mask of one image, if --out names one and not a folder."""
    from napari_unet.export import format_of, is_known
    from napari_unet.formats import is_zarr

    out: Path = arguments.out
    if not is_known(out) or (out.is_dir() and not is_zarr(out)):
        return None
    if len(images) > 1:
        raise BadInput(f"{out} is one file, but there are {len(images)} images; give a folder.")
    if arguments.format and format_of(f".{arguments.format}") is not format_of(out):
        raise BadInput(f"{out} is not of the format {arguments.format}; give one or the other.")
    return out


def _images_of(path: Path) -> list[Path]:
    """The files at a path, or of a project."""
    from napari_unet.io import list_images
    from napari_unet.records import is_project

    if not is_project(path):
        return list_images(path)
    from napari_unet.project import open_project

    project = open_project(path)
    files = [project.file(key) for key in project.images]
    project.close()
    return files


def _outputs(image: Path, arguments: argparse.Namespace, one_file: Path | None) -> dict[str, Path]:
    """The files that will be written for an image; what is there already is refused."""
    from napari_unet.export import format_of
    from napari_unet.io import stem

    name, out = stem(one_file or image), one_file.parent if one_file else arguments.out
    labels = one_file or out / f"{name}.{arguments.format or 'tif'}"
    files, kind = {"labels": labels}, format_of(labels)
    for what in ("probabilities", "uncertainty"):
        if getattr(arguments, what):
            # In folders of their own, or they would be taken for masks of other images.
            files[what] = out / what / f"{name}{kind.suffix if kind.floats else '.tif'}"
    for file in files.values():
        if file.exists() and file.samefile(image):
            raise BadInput(f"{file} is the image itself; give another folder with --out.")
        if file.exists() and not arguments.overwrite:
            raise BadInput(f"{file} exists already; give --overwrite or another folder.")
    return files


def _predict_one(
    model: Model,
    image: Image,
    config: Any,
    control: Control,
    files: dict[str, Path],
    arguments: argparse.Namespace,
) -> None:
    from napari_unet.export import describe, export_labels, export_probabilities
    from napari_unet.inference import check_image
    from napari_unet.pictures import Picture
    from napari_unet.segmenting import ObjectConfig, Task, new_result, segment

    check_image(model, image.data, str(image.path))
    describe(files["labels"], image.spatial_shape, image)  # what cannot be written is refused now
    result = new_result(Picture(image.name, image.data, image.spacing, image.unit))
    objects = ObjectConfig() if arguments.instances else None
    report = _json_report if arguments.json else _PredictReport(image.name)
    for event in segment(model, [Task(result)], config, control, objects):
        report(event)
    if control.stopped:
        return
    replace = arguments.overwrite
    export_labels(files["labels"], result.labels, image, result.classes, replace, result.objects)
    if result.probabilities is not None:
        export_probabilities(files["probabilities"], result.probabilities, image, replace)
    if result.uncertainty is not None:
        export_probabilities(files["uncertainty"], result.uncertainty[None], image, replace)
    if arguments.json:
        written = {"event": "written", "image": image.name, "path": str(files["labels"])}
        print(json.dumps(written), flush=True)


class _PredictReport:
    """One image's prediction as a bar on a terminal."""

    def __init__(self, name: str) -> None:
        from tqdm import tqdm

        self.name = name
        self.bar = tqdm(desc=name, unit=" tiles", disable=None, leave=False)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Tiled):
            self.bar.total = event.total
            self.bar.update(event.done - self.bar.n)
            if event.done == event.total:
                self.bar.close()
        elif isinstance(event, Noticed):
            self.bar.clear()
            _say(f"{self.name}: {event.message}")


# --- evaluate ---


def _add_evaluate(commands: Any) -> None:
    parser = _command(commands, "evaluate", _evaluate, "Dice and IoU of masks against the truth.")
    parser.add_argument("predicted", type=Path, help="A mask or a folder of masks")
    parser.add_argument("true", type=Path, help="The true mask or a folder of them")
    parser.add_argument("--json", action="store_true", help="Print the scores as JSON")


def _evaluate(arguments: argparse.Namespace) -> int:
    from napari_unet.annotation import guess_mapping, mask_values
    from napari_unet.api import read_masks
    from napari_unet.io import stem
    from napari_unet.metrics import dense_confusion, dice_of, iou_of

    paths = _matched(arguments.predicted, arguments.true)
    found, truth = read_masks([p for p, _ in paths]), read_masks([t for _, t in paths])
    for (path, true), a, b in zip(paths, found, truth, strict=True):
        if a.shape != b.shape:
            raise BadInput(
                f"{path} has shape {a.shape} but {true} has {b.shape}; give masks of one image."
            )
    of_found, of_truth = (guess_mapping(mask_values(m)) for m in (found, truth))
    n = max(of_found.n_classes, of_truth.n_classes)
    rows = []
    for (path, _), a, b in zip(paths, found, truth, strict=True):
        table = dense_confusion(of_found.apply(a), of_truth.apply(b), n)
        rows.append({"image": stem(path), "dice": dice_of(table), "iou": iou_of(table)})
    if of_found.describe() != of_truth.describe():
        _say(f"predicted: {of_found.describe()}; true: {of_truth.describe()}")
    _report_scores(rows, n, arguments.json)
    return 0


def _report_scores(rows: list[dict[str, Any]], n: int, as_json: bool) -> None:
    from napari_unet.metrics import mean

    means = {
        which: [mean(row[which][c] for row in rows) for c in range(n)] for which in ("dice", "iou")
    }
    overall = {which: mean(values) for which, values in means.items()}
    if as_json:
        print(json.dumps({"images": rows, "classes": means, "mean": overall}))
    else:
        _print_scores(rows, means, overall)


def _print_scores(rows: list[Any], means: dict[str, Any], overall: dict[str, Any]) -> None:
    def line(name: str, dice: Any, iou: Any) -> None:
        cells = [*(_number(d) for d in dice), *(_number(i) for i in iou)]
        print(f"{name:30.30s} " + " ".join(cells))

    n = len(means["dice"])
    heads = [f"{w} {c}" for w in ("Dice", "IoU") for c in range(1, n + 1)]
    print(f"{'image':30s} " + " ".join(f"{h:>8s}" for h in heads))
    for row in rows:
        line(row["image"], row["dice"], row["iou"])
    line("mean", means["dice"], means["iou"])
    print(f"mean of all classes: Dice {_number(overall['dice'])}, IoU {_number(overall['iou'])}")


def _number(value: float | None) -> str:
    return f"{'absent' if value is None else format(value, '.4f'):>8s}"


# --- models, info, demo ---


def _add_models(commands: Any) -> None:
    from napari_unet.config import Credits

    parser = commands.add_parser("models", help="The models in your library.")
    actions = parser.add_subparsers(required=True, metavar="list|show|import|export")
    _command(actions, "list", _models_list, "List the models of the library.")
    show = _command(actions, "show", _models_show, "Show the card of a model.")
    show.add_argument("model", help="A name in the library, a model folder or a zip of one")
    show.add_argument("--json", action="store_true", help="Print the whole card as JSON")
    take = _command(actions, "import", _models_import, "Copy a model into the library.")
    take.add_argument("path", type=Path, help="A model folder, a zip or a package of one")
    take.add_argument("--name", help="Name in the library")
    give = _command(actions, "export", _models_export, "Copy a model out of the library.")
    give.add_argument("model", help="A name in the library")
    give.add_argument(
        "path", type=Path,
        help="A new folder, or a file that ends in .zip, .bioimageio.zip or .onnx",
    )  # fmt: skip
    about = {name: field.description for name, field in Credits.model_fields.items()}
    give.add_argument(
        "--author", action="append", dest="authors", metavar="NAME",
        help=f"{about['authors']}; for .bioimageio.zip, as what follows",
    )  # fmt: skip
    give.add_argument("--license", metavar="NAME", help=about["license"])
    give.add_argument("--cite", action="append", metavar="DOI", help=about["cite"])


def _models_list(_arguments: argparse.Namespace) -> None:
    from napari_unet.cards import library_folder, list_models

    models = list_models()
    for name, card in models.items():
        if isinstance(card, str):
            print(f"{name:24s} {card}")
            continue
        version = card.current
        dice = f"{version.dice:.3f}" if version and version.dice is not None else "-"
        classes = ", ".join(c.name for c in card.classes)
        print(f"{name:24s} {card.net.arch:8s} {card.net.ndim}-D  Dice {dice:6s} {classes}")
    if not models:
        print(f"No models in {library_folder()}; 'napari-unet models import MODEL' adds one.")


def _models_show(arguments: argparse.Namespace) -> None:
    from napari_unet.library import load_model

    card = load_model(arguments.model).card
    print(card.model_dump_json(indent=1) if arguments.json else card.describe())


def _models_import(arguments: argparse.Namespace) -> None:
    from napari_unet.library import import_model

    place = import_model(arguments.path, arguments.name)
    _say(f"The model is in {place.resolve()}")


def _models_export(arguments: argparse.Namespace) -> None:
    from napari_unet.api import export_model
    from napari_unet.sharing import PACKAGE

    names = ("authors", "license", "cite")
    credits = {name: found for name in names if (found := getattr(arguments, name))}
    _say(f"The model is in {export_model(arguments.model, arguments.path, **credits).resolve()}")
    if arguments.path.name.lower().endswith(PACKAGE) and not {"authors", "license"} <= set(credits):
        _say("The BioImage Model Zoo asks who made a model and on which terms: --author, --license")


def _add_info(commands: Any) -> None:
    parser = _command(
        commands, "info", _info, "Device, versions, a self-test, and why a GPU is not used."
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")


def _info(arguments: argparse.Namespace) -> None:
    from napari_unet.info import describe_machine, measure_speed

    for line in describe_machine(arguments.device):
        print(line)
    for line in measure_speed(arguments.device):
        print(line)


def _add_open(commands: Any) -> None:
    parser = _command(commands, "open", _open, "Open a project in napari.")
    parser.add_argument("project", type=Path, help="The project's folder")


def _open(arguments: argparse.Namespace) -> None:
    from napari_unet.project import open_project

    open_project(arguments.project).close()  # what is wrong with it is said here, not in a window
    try:
        from napari_unet.gui.column import show_project
    except ImportError:
        raise BadInput('napari is not installed; pip install "napari-unet[all]".') from None
    show_project(arguments.project)


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", _demo, "The whole loop on bundled images.")
    parser.add_argument(
        "--out", type=Path, default=Path("napari-unet-demo"), help="Folder for the results"
    )
    parser.add_argument("--seconds", type=float, default=20, help="How long to train")
    parser.add_argument("--headless", action="store_true", help="Open no window")


def _demo(arguments: argparse.Namespace) -> None:
    from napari_unet.demo import run_demo

    control = Control()
    with _stops_on_interrupt(control):
        run_demo(
            arguments.out,
            arguments.seconds,
            arguments.headless,
            control,
            _TrainReport(None),
            _say,
        )


if __name__ == "__main__":
    sys.exit(main())
