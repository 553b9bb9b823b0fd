"""docs/method.png comes from a real run: bench/figure.py."""

import numpy as np
from PIL import Image

from bench import figure


def test_figure_is_drawn_from_a_run(tmp_path):
    panels = dict(figure.make_panels(3))
    assert len(panels) == 9
    mask, attention = panels["$M$: where it is fused"], panels["$A$: where a head can be"]
    assert 0 < mask.max() <= 1
    assert (mask * attention).sum() / mask.sum() > 2 * attention.mean()  # fused where a head can be
    changed = np.abs(panels["the head refined"].astype(int) - panels["the head so far"]).mean()
    assert changed > 1
    figure.draw(list(panels.items()), tmp_path / "figure.png")
    assert Image.open(tmp_path / "figure.png").width > 1000
