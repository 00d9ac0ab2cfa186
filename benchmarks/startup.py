"""How long a fresh interpreter takes to import the package and to print the help.

python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from common import Target, elapsed, table, write_report

HEAVY = ("torch", "napari", "qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6")
IMPORT = f"""
import json, sys, time
before = set(sys.modules)
start = time.perf_counter()
import napari_unet
seconds = time.perf_counter() - start
new = set(sys.modules) - before
print(json.dumps(dict(seconds=seconds, modules=len(new), heavy=sorted(new & set({HEAVY!r})))))
"""
HELP_BY_HAND = [sys.executable, "-c", "from napari_unet.cli import main; main(['--help'])"]


def help_command() -> list[str]:
    """The installed command, or the same by hand where it is not installed."""
    name = "napari-unet.exe" if sys.platform == "win32" else "napari-unet"
    installed = Path(sys.executable).with_name(name)
    return [str(installed), "--help"] if installed.exists() else HELP_BY_HAND


def run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    command = help_command()
    imports, helps, bare = [], [], []
    run(command)  # once for the compiled files and the disk's cache
    for _ in range(repeats):
        imports.append(json.loads(run([sys.executable, "-c", IMPORT])))
        helps.append(elapsed(lambda: run(command)))
        bare.append(elapsed(lambda: run([sys.executable, "-c", ""])))
    seconds = [found["seconds"] for found in imports]
    rows = [
        (what, f"{statistics.median(values) * 1000:.0f}", f"{max(values) * 1000:.0f}")
        for what, values in (
            ("`import napari_unet`", seconds),
            ("`napari-unet --help`", helps),
            ("an empty interpreter, of which both have need", bare),
        )
    ]
    heavy = sorted({name for found in imports for name in found["heavy"]})
    body = table(("what", "median, ms", "longest, ms"), rows)
    body += f"\n\nThe import loads {imports[0]['modules']} modules"
    body += f", among them {', '.join(heavy)}." if heavy else ", none of them torch, napari or Qt."
    write_report(
        "startup",
        f"Start-up, {repeats} fresh interpreters each",
        body,
        {"import": seconds, "help": helps, "empty": bare, "imports": imports},
        [
            Target("import, ms", statistics.median(seconds) * 1000, 100, at_most=True),
            Target("heavy packages imported", len(heavy), 0, at_most=True),
            Target("help, ms", statistics.median(helps) * 1000, 300, at_most=True),
        ],
    )


if __name__ == "__main__":
    main()
