"""The command line: a room for each command, which speaks by printing, in bars or JSON lines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from napari_unet import __version__
from napari_unet.cli.evaluate import add_evaluate
from napari_unet.cli.export import add_export
from napari_unet.cli.info import add_info
from napari_unet.cli.models import add_models
from napari_unet.cli.parts import INTERRUPTED, REFUSED, say
from napari_unet.cli.predict import add_predict
from napari_unet.cli.train import add_train
from napari_unet.cli.window import add_demo, add_open
from napari_unet.run import BadInput


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
        say("Given up; nothing more is written.")
        return INTERRUPTED


def _refuse(reason: str) -> int:
    say(f"napari-unet: {' '.join(reason.split())}")
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
    add_demo(commands)
    add_open(commands)
    add_train(commands)
    add_predict(commands)
    add_export(commands)
    add_evaluate(commands)
    add_models(commands)
    add_info(commands)
    return parser
