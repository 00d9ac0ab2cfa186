"""Take the pictures of docs/images: the journey and each dock, in both themes, in a real window.

make screenshots
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
THEMES = ("dark", "light")
SIZE = (1280, 720)
GOOD = 0.85

sys.path.insert(0, str(ROOT / "benchmarks"))


def main() -> None:
    """A fresh library and a fresh viewer for each theme."""
    import napari
    from hand import Hand

    IMAGES.mkdir(exist_ok=True)
    for theme in THEMES:
        with tempfile.TemporaryDirectory() as home:
            os.environ["NAPARI_UNET_HOME"] = home
            viewer = napari.Viewer()
            viewer.theme = theme
            viewer.window._qt_window.resize(*SIZE)
            take_journey(Hand(viewer), theme)
            viewer.close()


def take_journey(hand, theme: str) -> None:
    """From an empty viewer to a mask, with a picture of each stage and of the docks used there."""
    from hand import Painter

    column = open_dock(hand, "Workspace")
    save(hand.window, "journey-empty", theme)
    painter = Painter(hand)
    painter.first_strokes()
    save(hand.window, "journey-painted", theme)
    hand.click("train.start")
    hand.until(lambda: painter.score() > 0)
    painter.correct_until(GOOD)
    hand.wait(2)
    save(hand.window, "journey-learning", theme)
    hand.click("train.stop")
    hand.until(lambda: hand.find("train.start").isEnabled())
    hand.choose("segment.objects", "Separate")
    hand.click("segment.run")
    hand.until(lambda: hand.find("segment.export").isEnabled())
    painter.annotation.visible = False
    save(hand.window, "journey-segmented", theme)
    hand.viewer.window.remove_dock_widget(column)
    for name in ("Annotate", "Train", "Segment", "Models", "Images"):
        dock = open_dock(hand, name)
        save(dock, f"dock-{name.lower()}", theme)
        hand.viewer.window.remove_dock_widget(dock)


def open_dock(hand, name: str):
    _, widget = hand.viewer.window.add_plugin_dock_widget("napari-unet", name)
    hand.wait(0.5)
    return widget


def save(widget, name: str, theme: str) -> None:
    widget.grab().save(str(IMAGES / f"{name}-{theme}.png"))


if __name__ == "__main__":
    main()
