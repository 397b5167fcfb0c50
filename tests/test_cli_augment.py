"""`dpgen plan --preview`: what is declared public knowledge, as a picture of public images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpgen.commands.plan_preview import save_plan_preview
from dpgen.configurations.dpdm import DPDMSettings
from dpgen.configurations.m3d import CondensedSettings, M3DSettings
from dpgen.configurations.pge import PGESettings
from dpgen.images.facts import PublicFacts
from dpgen.stages.augment import AUGMENTS
from dpgen.stages.sketch_settings import SketchSettings

SKETCH = PGESettings(mode="sketch", sketch=SketchSettings(augment="mirror"))
CONDENSED = M3DSettings(condensed=CondensedSettings(augment="mirror"))


@pytest.mark.parametrize(
    ("shape", "asked"), [((1, 8, 8), SKETCH), ((3, 20, 16), SKETCH), ((1, 8, 8), CONDENSED)],
    ids=["grey", "colour", "condensed"],
)  # fmt: skip
def test_the_picture_shows_public_images_under_every_value(
    tmp_path: Path, shape: tuple[int, int, int], asked: PGESettings | M3DSettings
) -> None:
    facts = PublicFacts(shape, ("a", "b"), 900)
    save_plan_preview(asked.resolved(facts), shape, tmp_path / "p.png")
    picture = np.asarray(Image.open(tmp_path / "p.png").convert("L")).astype(int)
    panels = np.split(picture[30:, : picture.shape[1] // 4 * 4], 4, axis=1)
    assert len(panels) == len(AUGMENTS)
    # No two panels show the same, though their frames do not lie at the very same places.
    for k in range(3):
        assert np.abs(panels[k] - panels[k + 1]).mean() > 1


def test_what_has_no_sketch_has_no_picture(tmp_path: Path) -> None:
    facts = PublicFacts((1, 8, 8), ("a", "b"), 900)
    with pytest.raises(ValueError, match="sketch.augment does, and these settings have no sketch"):
        save_plan_preview(DPDMSettings().resolved(facts), facts.shape, tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()
