"""The format of projects is documented: the schemas in docs are those of the records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_unet.records import FORMAT, ImageCard, ProjectCard

DOCS = Path(__file__).parents[1] / "docs"
SCHEMAS = {"project.schema.json": ProjectCard, "image.schema.json": ImageCard}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_in_docs_is_that_of_the_program(name):
    documented = json.loads((DOCS / name).read_text(encoding="utf-8"))

    assert documented == SCHEMAS[name].model_json_schema(), "write it anew: see CONTRIBUTING.md"


def test_the_number_of_the_format_is_documented():
    assert f"`format` is {FORMAT}." in (DOCS / "project-format.md").read_text(encoding="utf-8")
