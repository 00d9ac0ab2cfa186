"""Libraries that may be absent, and the sentence that says how to get one."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from napari_unet.run import BadInput

_CALLED = {"nrrd": "pynrrd", "bioimageio.spec": "bioimageio.spec"}  # where pip has another name


def optional(module: str, what: str, extra: str = "formats") -> Any:
    """Import a module of an extra, or say that `what` needs it."""
    try:
        return import_module(module)
    except ImportError as error:
        library = _CALLED.get(module, module.partition(".")[0])
        raise BadInput(f'{what} needs {library}: pip install "napari-unet[{extra}]".') from error
