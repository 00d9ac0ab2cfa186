"""What computes here, and how fast."""

from __future__ import annotations

import argparse
from typing import Any

from napari_unet.cli.parts import command


def add_info(commands: Any) -> None:
    """Offer the command `info`."""
    parser = command(
        commands, "info", _info, "Device, versions, a self-test, and why a GPU is not used."
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")


def _info(arguments: argparse.Namespace) -> None:
    from napari_unet.info import describe_machine, measure_speed

    for line in describe_machine(arguments.device):
        print(line)
    for line in measure_speed(arguments.device):
        print(line)
