"""The models of the library, taken in and given away."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from napari_unet.cli.parts import command, say
from napari_unet.suffixes import PACKAGE


def add_models(commands: Any) -> None:
    """Offer the command `models`."""
    from napari_unet.config import Credits

    parser = commands.add_parser("models", help="The models in your library.")
    actions = parser.add_subparsers(required=True, metavar="list|show|import|export")
    command(actions, "list", _models_list, "List the models of the library.")
    show = command(actions, "show", _models_show, "Show the card of a model.")
    show.add_argument("model", help="A name in the library, a model folder or a zip of one")
    show.add_argument("--json", action="store_true", help="Print the whole card as JSON")
    take = command(actions, "import", _models_import, "Copy a model into the library.")
    take.add_argument("path", type=Path, help="A model folder, a zip or a package of one")
    take.add_argument("--name", help="Name in the library")
    give = command(actions, "export", _models_export, "Write a model for others.")
    give.add_argument("model", help="A name in the library, a model folder or a zip of one")
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
    say(f"The model is in {place.resolve()}")


def _models_export(arguments: argparse.Namespace) -> None:
    from napari_unet.api import export_model

    names = ("authors", "license", "cite")
    credits = {name: found for name in names if (found := getattr(arguments, name))}
    say(f"The model is in {export_model(arguments.model, arguments.path, **credits).resolve()}")
    if arguments.path.name.lower().endswith(PACKAGE) and not {"authors", "license"} <= set(credits):
        say("The BioImage Model Zoo asks who made a model and on which terms: --author, --license")
