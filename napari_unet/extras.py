"""Libraries that not everyone has: imported when they are needed, or asked for in a sentence."""

from __future__ import annotations

import importlib
from types import ModuleType

from napari_unet.run import BadInput


def optional(module: str, what: str, extra: str) -> ModuleType:
    """Import a module; where it is missing, say what needs it and how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        library = ".".join(module.split(".")[:2]) if module.startswith("bioimageio") else module
        raise BadInput(f'{what} needs {library}: pip install "napari-unet[{extra}]".') from None
