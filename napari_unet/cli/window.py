"""What opens in napari: a project, and the whole loop as a demonstration."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from napari_unet.cli.parts import command, say, stops_on_interrupt
from napari_unet.cli.train import TrainReport
from napari_unet.run import BadInput, Control


def add_open(commands: Any) -> None:
    """Offer the command `open`."""
    parser = command(commands, "open", _open, "Open a project in napari.")
    parser.add_argument("project", type=Path, help="The project's folder")


def _open(arguments: argparse.Namespace) -> None:
    from napari_unet.project import open_project

    # What cannot be opened is refused here, not in a window; the window mends what it tells of.
    open_project(arguments.project, mend=False)
    try:
        from napari_unet.gui.column import show_project
    except ImportError:
        raise BadInput('napari is not installed; pip install "napari-unet[all]".') from None
    show_project(arguments.project)


def add_demo(commands: Any) -> None:
    """Offer the command `demo`."""
    parser = command(commands, "demo", _demo, "The whole loop on generated images.")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("napari-unet-demo"),
        help="Folder for the results, without a window",
    )
    parser.add_argument(
        "--seconds", type=float, default=20, help="How long to train, without a window"
    )
    parser.add_argument("--headless", action="store_true", help="Open no window")


def _demo(arguments: argparse.Namespace) -> None:
    from napari_unet.demo import run_demo

    control = Control()
    with stops_on_interrupt(control):
        run_demo(
            arguments.out,
            arguments.seconds,
            arguments.headless,
            control,
            TrainReport(None),
            say,
        )
