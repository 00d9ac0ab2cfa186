"""What the commands share: options made of settings, what is said, and how they are stopped."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_unet.run import Control, Event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.project import Project


# Everything heavy is imported inside the command that needs it: --help must answer at once.

REFUSED, INTERRUPTED = 2, 130


def command(commands: Any, name: str, run: Callable[..., int | None], text: str) -> Any:
    """Add a command, which runs a function with what was given."""
    parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def flags(parser: Any, model: Any, names: Sequence[str]) -> None:
    """Options made from the fields of a settings class: their help and default are the field's."""
    for name in names:
        field = model.model_fields[name]
        kind, default = field.annotation, field.default
        options: dict[str, Any] = {"help": field.description, "default": default}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction if default else "store_true"
        elif "Literal" in str(kind):
            options["choices"] = kind.__args__
        else:
            options["type"] = next(t for t in (int, float, str) if t.__name__ in str(kind))
            options["metavar"] = {int: "N", float: "X", str: "NAME"}[options["type"]]
        if default is not None and kind is not bool:
            options["help"] += f" (default {default})"
        parser.add_argument(f"--{name.replace('_', '-')}", **options)


def settings(model: Any, arguments: argparse.Namespace, names: Sequence[str]) -> Any:
    """The settings that the options ask for; a wrong value is told in a sentence."""
    from napari_unet.api import make_settings

    return make_settings(model, {name: getattr(arguments, name) for name in names}, "--")


def report_as_json(event: Event) -> None:
    """One event as one line of JSON, without what is large."""
    large = ("model", "last", "region", "result")
    values = {k: v for k, v in vars(event).items() if k not in large}
    print(json.dumps({"event": type(event).__name__.lower(), **values}), flush=True)


def say(text: str) -> None:
    """Tell people something; what programs read goes to the other stream."""
    print(text, file=sys.stderr, flush=True)


def tell_problems(project: Project) -> None:
    """Say what of a project was found damaged, once."""
    for problem in project.problems:
        say(problem)
    project.problems = []


def tell_left_out(number: int, of: int) -> int:
    """Say how many images were left out, if any; what the command returns."""
    if number:
        say(f"{number} of {of} images were left out, as said above.")
    return REFUSED if number else 0


@contextmanager
def stops_on_interrupt(control: Control) -> Iterator[None]:
    """The first Ctrl-C stops the engine between two steps, the second at once."""

    def stop(_signal: int, _frame: Any) -> None:
        say("\nStopping; the best so far is kept. Ctrl-C again gives up.")
        control.stop()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
