"""Libraries that may be absent, and the sentence that says how to get one."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from napari_unet.run import BadInput


def optional(module: str, what: str) -> Any:
    """Import a module of the extra `formats`, or say that `what` needs it."""
    try:
        return import_module(module)
    except ImportError as error:
        library = {"nrrd": "pynrrd"}.get(module, module.partition(".")[0])
        raise BadInput(f'{what} needs {library}: pip install "napari-unet[formats]".') from error
