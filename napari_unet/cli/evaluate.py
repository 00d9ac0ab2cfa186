"""Dice and IoU of masks against the truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from napari_unet.cli.pairs import add_meaning, matched, said_meaning
from napari_unet.cli.parts import command, say
from napari_unet.run import BadInput


def add_evaluate(commands: Any) -> None:
    """Offer the command `evaluate`."""
    parser = command(commands, "evaluate", _evaluate, "Dice and IoU of masks against the truth.")
    parser.add_argument("predicted", type=Path, help="A mask or a folder of masks")
    parser.add_argument("true", type=Path, help="The true mask or a folder of them")
    add_meaning(parser, "true masks")
    parser.add_argument("--json", action="store_true", help="Print the scores as JSON")


def _evaluate(arguments: argparse.Namespace) -> int:
    from napari_unet.io import stem
    from napari_unet.masks import affine_of, fitted, read_masks, understand
    from napari_unet.metrics import dense_confusion, dice_of, iou_of

    paths = matched(arguments.predicted, arguments.true)
    given = said_meaning(arguments)
    found = read_masks([p for p, _ in paths])
    truth = read_masks([t for _, t in paths], affines=[affine_of(p) for p, _ in paths])
    found = [fitted(a, b.shape) for a, b in zip(found, truth, strict=True)]
    for (path, true), a, b in zip(paths, found, truth, strict=True):
        if a.shape != b.shape:
            raise BadInput(
                f"{path} has shape {a.shape} but {true} has {b.shape}; give masks of one image."
            )
    of_found = understand(found)
    if given is not None:
        of_truth = given
    else:
        # Several predicted classes would not be those of objects.
        of_truth = understand(truth, arguments.objects or None, of_found.n_classes)
    if of_truth.objects:
        of_found = of_truth
    elif of_found.objects and of_truth.n_classes > 1:  # they are classes, in one piece each
        of_found = understand(found, named=of_truth.n_classes)
    n = max(of_found.n_classes, of_truth.n_classes)
    rows = []
    for (path, _), a, b in zip(paths, found, truth, strict=True):
        table = dense_confusion(of_found.apply(a), of_truth.apply(b), n)
        rows.append({"image": stem(path), "dice": dice_of(table), "iou": iou_of(table)})
    if of_found.describe() != of_truth.describe():
        say(f"predicted: {of_found.describe()}; true: {of_truth.describe()}")
    elif of_truth.objects:
        say(f"all masks: {of_truth.describe()}")
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
