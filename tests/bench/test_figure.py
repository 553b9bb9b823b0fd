"""The documents' figures come from real runs: bench/figure.py."""

import numpy as np
from PIL import Image

from bench import figure


def test_figure_is_drawn_from_a_run(tmp_path):
    painter = figure.Painter()
    panels = dict(figure.make_panels(painter, 3))
    assert len(panels) == 9
    mask, attention = panels["$M$: where it is fused"], panels["$A$: where a head can be"]
    assert 0 < mask.max() <= 1
    assert (mask * attention).sum() / mask.sum() > 2 * attention.mean()  # fused where a head can be
    changed = np.abs(panels["the head refined"].astype(int) - panels["the head so far"]).mean()
    assert changed > 1
    scenes = figure.make_scenes(painter, 3)
    assert np.array_equal(scenes[-1][1], panels["the result"])
    figure.draw([list(panels.items())], 1.5, tmp_path / "figure.png")
    assert Image.open(tmp_path / "figure.png").width > 1000
