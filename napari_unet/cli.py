"""The command line: train, predict, evaluate, models, info and demo, with bars or JSON lines."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    from napari_unet.annotation import Mapping
    from napari_unet.io import Image
    from napari_unet.library import Model

# Everything heavy is imported inside the command that needs it: --help must answer at once.

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 for success, 2 for bad input with one line on standard error."""
    arguments = _parser().parse_args(argv)
    try:
        status: int | None = arguments.run(arguments)
        return status or 0
    except BadInput as error:
        print(f"napari-unet: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output went away, as in `| head`
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="napari-unet", description="A U-Net that learns from a handful of annotations."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_train(commands)
    _add_predict(commands)
    _add_evaluate(commands)
    _add_models(commands)
    _add_info(commands)
    return parser


def _command(commands: Any, name: str, run: Callable[..., int | None], text: str) -> Any:
    parser = commands.add_parser(name, help=text, description=text)
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
    from pydantic import ValidationError

    try:
        return model(**{name: getattr(arguments, name) for name in names})
    except ValidationError as error:
        first = error.errors()[0]
        flag = str(first["loc"][0]).replace("_", "-")
        raise BadInput(f"--{flag} {first['input']}: {first['msg'].lower()}.") from None


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
    parser.add_argument("images", type=Path, help="An image or a folder of images")
    parser.add_argument("masks", type=Path, help="A mask or a folder of masks, matched by name")
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
    from napari_unet.api import first_weights, make_training_set
    from napari_unet.config import TrainConfig
    from napari_unet.training import train

    config = _settings(TrainConfig, arguments, TRAIN_FLAGS)
    pairs = read_pairs(arguments.images, arguments.masks, arguments.axes)
    classes = arguments.classes.split(",") if arguments.classes else None
    training_set, mapping = make_training_set(
        pairs,
        sparse=arguments.sparse,
        classes=classes,
        mapping=_parse_map(arguments.map) if arguments.map else None,
        objects=arguments.objects or None,
        slices=arguments.slices,
        border=config.border,
    )
    if not arguments.sparse:
        _say(f"masks: {mapping.describe()} (--map corrects this)")
    for image, _ in pairs[:3]:
        _say(image.describe())
    start = first_weights(arguments.init)
    _refuse_unwritable(arguments.out)
    control = Control()
    report = _json_report if arguments.json else _TrainReport(config.steps)
    with _stops_on_interrupt(control):
        model = None
        for event in train(
            config, training_set, control,
            start=start, checkpoint=arguments.checkpoint, name=arguments.out.stem,
        ):  # fmt: skip
            report(event)
            if isinstance(event, Rested):
                control.stop()
            if isinstance(event, Trained):
                model = event.model
    assert model is not None
    _say(f"The model is in {model.save(arguments.out).resolve()}")
    return 0


def read_pairs(images: Path, masks: Path, axes: str | None) -> list[tuple[Image, np.ndarray]]:
    """Images with their masks, matched by name."""
    from napari_unet.io import list_images, mask_colors, match_pairs, read_image, read_mask

    one_each = images.is_file() and masks.is_file()
    paths = [(images, masks)] if one_each else match_pairs(list_images(images), list_images(masks))
    colors = sorted({c for _, mask in paths for c in mask_colors(mask)}, key=sum)
    return [(read_image(i, axes), read_mask(m, colors=colors or None)) for i, m in paths]


def _parse_map(text: str) -> Mapping:
    from napari_unet.annotation import Mapping

    try:
        values = {int(k): int(v) for k, v in (pair.split("=") for pair in text.split(","))}
    except ValueError:
        raise BadInput(f"--map {text}: give pairs such as 0=0,255=1.") from None
    if any(not 0 <= c <= 254 for c in values.values()):
        raise BadInput(f"--map {text}: classes are 1..254, and 0 is background.")
    return Mapping(values)


def _refuse_unwritable(out: Path) -> None:
    """Find out before training, not after, that its result cannot be written."""
    from napari_unet.atomic import atomic_folder

    probe = out.parent / f".{out.name}.probe"
    with atomic_folder(probe, overwrite=True):
        pass
    probe.rmdir()


class _TrainReport:
    """Training as a bar on a terminal, and as lines where there is none."""

    def __init__(self, steps: int | None) -> None:
        from tqdm import tqdm

        self.bar = tqdm(total=steps, unit=" steps", disable=None, leave=False)
        self.dice = ""

    def __call__(self, event: Event) -> None:
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
    """One event as one line of JSON."""
    values = {k: v for k, v in vars(event).items() if k not in ("model", "region")}
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
FORMATS = ("tif", "ome.tif", "png", "npy", "zarr")


def _add_predict(commands: Any) -> None:
    from napari_unet.config import PredictConfig

    parser = _command(commands, "predict", _predict, "Write the masks of images.")
    parser.add_argument("model", help="A model folder, a zip of one, or a name in the library")
    parser.add_argument("images", type=Path, help="An image or a folder of images")
    parser.add_argument("--out", type=Path, required=True, help="Folder for the masks")
    parser.add_argument("--format", choices=FORMATS, default="tif", help="File format of masks")
    parser.add_argument("--instances", action="store_true", help="Number separate objects")
    parser.add_argument("--axes", help="Axes of the images if they cannot be told, such as ZYX")
    parser.add_argument("--overwrite", action="store_true", help="Replace masks that are there")
    _flags(parser, PredictConfig, PREDICT_FLAGS)
    parser.add_argument("--json", action="store_true", help="Print every event as a line of JSON")


def _predict(arguments: argparse.Namespace) -> int:
    from napari_unet.config import PredictConfig
    from napari_unet.io import list_images, read_image
    from napari_unet.library import load_model

    config = _settings(PredictConfig, arguments, PREDICT_FLAGS)
    model = load_model(arguments.model)
    control = Control()
    with _stops_on_interrupt(control):
        for path in list_images(arguments.images):
            _predict_one(model, read_image(path, arguments.axes), config, control, arguments)
            if control.stopped:
                _say(f"Stopped; the masks of the images before {path.name} are in {arguments.out}")
                return INTERRUPTED
    _say(f"The masks are in {arguments.out.resolve()}")
    return 0


def _predict_one(
    model: Model, image: Image, config: Any, control: Control, arguments: argparse.Namespace
) -> None:
    from napari_unet.api import finish_prediction
    from napari_unet.export import export_labels, export_probabilities
    from napari_unet.inference import new_target, predict
    from napari_unet.instances import split_objects

    out, suffix = arguments.out, arguments.format
    file = out / f"{image.name}.{suffix}"
    if file.exists() and not arguments.overwrite:
        raise BadInput(f"{file} exists already; give --overwrite or another folder.")
    target = new_target(model, image.spatial_shape, config)
    report = _json_report if arguments.json else _PredictReport(image.name)
    finish_prediction(predict(model, image.data, config, control, target), report)
    if control.stopped:
        return
    labels, classes = target.labels, model.card.classes
    if arguments.instances:
        probability = target.probabilities[0] if target.probabilities is not None else None
        single = probability if len(classes) == 1 else None
        labels, classes = split_objects(labels, single, spacing=image.spacing), None
    export_labels(file, labels, image, classes, arguments.overwrite)
    extra = {"probabilities": target.probabilities, "uncertainty": target.uncertainty}
    for what, values in extra.items():
        if values is not None:
            kind = "tif" if suffix == "png" else suffix
            values = values if what == "probabilities" else values[None]
            name = out / f"{image.name}_{what}.{kind}"
            export_probabilities(name, values, image, arguments.overwrite)
    if arguments.json:
        print(json.dumps({"event": "written", "image": image.name, "path": str(file)}), flush=True)


class _PredictReport:
    """One image's prediction as a bar on a terminal."""

    def __init__(self, name: str) -> None:
        from tqdm import tqdm

        self.bar = tqdm(desc=name, unit=" tiles", disable=None, leave=False)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Tiled):
            self.bar.total = event.total
            self.bar.update(event.done - self.bar.n)
        elif isinstance(event, Noticed):
            _say(f"{self.bar.desc.rstrip(': ') if self.bar.desc else ''}: {event.message}")


# --- evaluate ---


def _add_evaluate(commands: Any) -> None:
    parser = _command(commands, "evaluate", _evaluate, "Dice and IoU of masks against the truth.")
    parser.add_argument("predicted", type=Path, help="A mask or a folder of masks")
    parser.add_argument("true", type=Path, help="The true mask or a folder of them")
    parser.add_argument("--json", action="store_true", help="Print the scores as JSON")


def _evaluate(arguments: argparse.Namespace) -> int:
    from napari_unet.annotation import guess_mapping, mask_values
    from napari_unet.io import list_images, match_pairs, read_mask, stem
    from napari_unet.metrics import dense_confusion, dice_of, iou_of, mean

    one_each = arguments.predicted.is_file() and arguments.true.is_file()
    paths = (
        [(arguments.predicted, arguments.true)]
        if one_each
        else match_pairs(list_images(arguments.predicted), list_images(arguments.true))
    )
    found = [read_mask(p) for p, _ in paths]
    truth = [read_mask(t) for _, t in paths]
    of_found, of_truth = (guess_mapping(mask_values(m)) for m in (found, truth))
    if of_found.describe() != of_truth.describe():
        _say(f"predicted: {of_found.describe()}; true: {of_truth.describe()}")
    n = max(of_found.n_classes, of_truth.n_classes)
    rows = []
    for (path, _), a, b in zip(paths, found, truth, strict=True):
        table = dense_confusion(of_found.apply(a), of_truth.apply(b), n)
        rows.append({"image": stem(path), "dice": dice_of(table), "iou": iou_of(table)})
    means = {
        which: [mean(row[which][c] for row in rows) for c in range(n)] for which in ("dice", "iou")
    }
    overall = {which: mean(values) for which, values in means.items()}
    if arguments.json:
        print(json.dumps({"images": rows, "classes": means, "mean": overall}))
    else:
        _print_scores(rows, means, overall)
    return 0


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
    parser = commands.add_parser("models", help="The models in your library.")
    actions = parser.add_subparsers(required=True, metavar="list|show|import|export")
    _command(actions, "list", _models_list, "List the models of the library.")
    show = _command(actions, "show", _models_show, "Show the card of a model.")
    show.add_argument("model", help="A name in the library, a model folder or a zip of one")
    show.add_argument("--json", action="store_true", help="Print the whole card as JSON")
    take = _command(actions, "import", _models_import, "Copy a model into the library.")
    take.add_argument("path", type=Path, help="A model folder or a zip of one")
    take.add_argument("--name", help="Name in the library")
    give = _command(actions, "export", _models_export, "Copy a model out of the library.")
    give.add_argument("model", help="A name in the library")
    give.add_argument("path", type=Path, help="A new folder, or a file that ends in .zip")


def _models_list(_arguments: argparse.Namespace) -> None:
    from napari_unet.library import library_folder, list_models

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

    _say(f"The model is in {import_model(arguments.path, arguments.name)}")


def _models_export(arguments: argparse.Namespace) -> None:
    from napari_unet.library import load_model

    if arguments.path.exists():
        raise BadInput(f"{arguments.path} exists already; give another place.")
    _say(f"The model is in {load_model(arguments.model).save(arguments.path).resolve()}")


def _add_info(commands: Any) -> None:
    parser = _command(
        commands, "info", _info, "Device, versions, a self-test, and why a GPU is not used."
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")


def _info(arguments: argparse.Namespace) -> None:
    from napari_unet.demo import describe_machine, self_test

    for line in describe_machine(arguments.device):
        print(line)
    for line in self_test(arguments.device):
        print(line)


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", _demo, "The whole loop on bundled images.")
    parser.add_argument(
        "--out", type=Path, default=Path("napari-unet-demo"), help="Folder for the results"
    )
    parser.add_argument("--seconds", type=float, default=20, help="How long to train")
    parser.add_argument("--headless", action="store_true", help="Open no window")


def _demo(arguments: argparse.Namespace) -> None:
    from napari_unet.demo import run_demo

    run_demo(arguments.out, arguments.seconds, arguments.headless, _TrainReport(None), _say)


if __name__ == "__main__":
    sys.exit(main())
