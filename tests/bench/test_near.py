"""The closer look on the embedded host: one look a pass, at the head, and nothing of it stays."""

import numpy as np
import pytest
import torch

from bench import near
from bench.methods import METHODS
from demo.dollhouse.draw import draw
from demo.dollhouse.world import Picture
from lib_beyondfacial.hosts import a1111_pass
from lib_beyondfacial.method import close_look
from lib_beyondfacial.method.engine import RunState

pytestmark = pytest.mark.weights


def test_one_look_a_pass_and_the_picture_is_another_at_the_head_alone(painter, pair, monkeypatch):
    targets, look = [], near.look

    def noting(*args):
        targets.append(look(*args))
        return targets[-1]

    monkeypatch.setattr(near, "look", noting)
    before = (a1111_pass.evaluate_identity, RunState._adaptive_mask)
    usual, close = (painter.paint([pair], METHODS[name]) for name in ("beyondfacial", "closer_look"))
    assert (a1111_pass.evaluate_identity, RunState._adaptive_mask) == before
    assert len(targets) == 1
    assert close.rows == usual.rows + 2 * close_look.STEPS
    change = np.abs(close.images[0].astype(float) - usual.images[0]).mean(2)
    inside = torch.nn.functional.interpolate(targets[0].mask, change.shape)[0, 0].numpy() > 0
    assert change[inside].mean() > 3 * change[~inside].mean()
    again = painter.paint([pair], METHODS["closer_look"]).images[0]
    assert np.array_equal(again, close.images[0])


def test_the_head_is_the_face_that_attention_is_on_else_attentions_own_box(pair):
    image, truth = draw(Picture(pair.person, "city", "standing", "full"), 192, 192)
    picture = torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1
    region = torch.zeros(24, 24)
    region[2:5, 20:23] = 1
    box = np.array(near.head_of(picture, region))
    assert np.abs(box - truth.head_box).max() < 8
    assert near.head_of(torch.zeros_like(picture), region) == (160, 16, 184, 40)
