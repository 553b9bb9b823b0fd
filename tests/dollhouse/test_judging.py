"""The judges: what they tell by old and new weights and of wide pictures, what detectors and recognisers learn from,
and how the parts of a prompt are counted."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from demo.dollhouse.draw import draw
from demo.dollhouse.evaluate import (
    ADDED_CLASSES,
    AMOUNTS,
    HEAD_CLASSES,
    PICTURE_CLASSES,
    WORN_CLASSES,
    Evaluator,
    HeadNet,
    PictureNet,
    outputs_of,
    to_input,
)
from demo.dollhouse.train import detector, measure
from demo.dollhouse.train.evaluator import head_label, shown
from demo.dollhouse.train.recogniser import Trained
from demo.dollhouse.train.seeing import calibrate_norms, unfold_norms
from demo.dollhouse.world import Person, Picture, random_identity

MAN, WOMAN = (
    replace(random_identity(np.random.default_rng(k)), gender=gender, beard=False)
    for k, gender in enumerate(("man", "woman"))
)
PAIR = Picture(MAN, "city", "waving", "full", modifier="rain", second=Person(WOMAN, "sad", "hat", "ball"))


def saved(path, **outputs: int) -> Evaluator:
    torch.manual_seed(0)
    nets = {name: net(outputs[name]) for name, net in (("picture", PictureNet), ("head", HeadNet))}
    save_file({f"{name}.{k}": v for name, net in nets.items() for k, v in net.state_dict().items()}, path)
    return Evaluator.load(path)


def test_evaluators_tell_what_their_weights_were_trained_for(tmp_path):
    old = saved(tmp_path / "old", picture=outputs_of(PICTURE_CLASSES), head=outputs_of(HEAD_CLASSES) + AMOUNTS)
    new = Evaluator(PictureNet(), HeadNet())
    image = draw(PAIR, 288, 192)[0][None]
    crop = np.zeros((1, 112, 112, 3), np.uint8)
    assert set(old.judge(image)) == set(PICTURE_CLASSES)
    assert set(new.judge(image)) == {*PICTURE_CLASSES, *ADDED_CLASSES}
    assert set(old.attributes(crop)) == {*HEAD_CLASSES, "skin", "width"}
    assert set(new.attributes(crop)) == {*HEAD_CLASSES, *WORN_CLASSES, "skin", "width"}
    assert new.judge(image)["count"][0] in (1, 2)


def test_the_shipped_evaluator_is_read():
    judged = Evaluator.load().judge(draw(replace(PAIR, second=None, modifier="none"))[0][None])
    assert (judged["shot"][0], judged["scene"][0], judged["action"][0]) == ("full", "city", "waving")


def test_a_wide_picture_keeps_its_proportions():
    assert to_input(np.zeros((2, 192, 384, 3), np.uint8), 128).shape == (2, 3, 128, 256)
    assert to_input(np.zeros((2, 192, 192, 3), np.uint8), 128).shape == (2, 3, 128, 128)


def test_what_a_picture_shows():
    assert [shown(PAIR, k) for k in ("shot", "item", "modifier", "count")] == ["full", "ball", "rain", 2]
    assert [shown(replace(PAIR, second=None), k) for k in ("item", "count")] == ["none", 1]
    first, last = (head_label(PAIR, which) for which in (0, -1))
    gender, expression, accessory = (list(HEAD_CLASSES | WORN_CLASSES).index(k) for k in ("gender", *WORN_CLASSES))
    assert (first[gender], first[expression], first[accessory]) == (0, 0, 0)
    assert (last[gender], last[expression], last[accessory]) == (1, 2, 2)


def points_of(x: float, y: float, r: float) -> np.ndarray:
    marks = [(-0.4, 0), (0.4, 0), (0, 0.3), (-0.3, 0.6), (0.3, 0.6)]
    return np.array([(x - r, y - r), (x + r, y + r), *((x + a * r, y + b * r) for a, b in marks)])


def test_the_detector_is_told_of_every_head():
    heads = [points_of(52, 60, 21), points_of(140, 64, 20)]
    score, values, scale = detector.targets_of(192, heads)[0]
    for points in heads:
        column, row = (int(round(v / 8)) for v in points[:2].mean(0))
        assert score[row, column].max() > 0.9
        corner = np.array([column, row]) * 8
        found = values[row, column, 0] * 8
        assert found[:2] == pytest.approx(corner - points[0], abs=1e-4)
        assert found[2:4] == pytest.approx(points[1] - corner, abs=1e-4)
        assert found[4:].reshape(5, 2) == pytest.approx(points[2:] - corner, abs=1e-4)
    assert scale[7, [6, 18], 0, 0] == pytest.approx([8 / 42, 8 / 40])
    assert all(not s.any() and not v.any() for s, v, _ in detector.targets_of(192, []))


def test_a_wide_picture_is_fitted_with_its_heads_into_the_detectors_square():
    image, truth = draw(PAIR, 384, 192)
    for seed in range(6):
        heads = [np.concatenate([np.reshape(t.head_box, (2, 2)), t.landmarks]) for t in truth.heads]
        out, moved = detector.fitted(image, heads, 192, np.random.default_rng(seed))
        assert out.shape == (192, 192, 3)
        for before, after in zip(heads, moved, strict=True):
            x, y = after[2:].mean(0)
            wanted = image[tuple(int(v) for v in before[2:].mean(0)[::-1])].astype(int)
            assert np.abs(out[int(y), int(x)] - wanted).max() < 60  # both are the middle of the face
            assert after.min() >= 0
            assert after.max() <= 192


def test_unfolded_norms_do_the_same_in_both_modes():
    torch.manual_seed(1)
    x, model = torch.rand(24, 3, 112, 112) * 2 - 1, Trained("judge")
    for m in model.modules():  # as read out of a graph: a shift alone
        if isinstance(m, torch.nn.BatchNorm2d):
            m.weight.data.fill_((1 + m.eps) ** 0.5)
            m.bias.data.normal_(0, 0.1)
    with torch.no_grad():
        before = model.eval()(x)[0]
        unfold_norms(model, x)
        in_training, after = model(x)[0], model.eval()(x)[0]
    assert (after * before).sum(1).min() > 0.9999
    assert (in_training * before).sum(1).min() > 0.99
    calibrate_norms(model, [x])
    kept = [m.running_mean.clone() for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    unfold_norms(model, x + 1)  # has statistics: left alone
    assert all(
        torch.equal(a, m.running_mean)
        for a, m in zip(kept, [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)], strict=True)
    )


def test_the_parts_of_a_prompt_are_counted(monkeypatch, tmp_path):
    image, truth = draw(PAIR, 288, 192)
    faces = [SimpleNamespace(box=np.array(t.head_box), landmarks=t.landmarks) for t in truth.heads]
    people = list(PAIR.people)

    def attributes(crops):
        heads = people[: len(crops)]
        return {
            "gender": np.array([p.identity.gender for p in heads]),
            "expression": np.array([p.expression for p in heads]),
            "accessory": np.array([p.accessory for p in heads]),
        }

    judged = {k: np.array([shown(PAIR, k)]) for k in PICTURE_CLASSES | ADDED_CLASSES}
    evaluator = SimpleNamespace(
        judge=lambda images: judged, attributes=attributes, picture_classes=PICTURE_CLASSES | ADDED_CLASSES
    )
    place, found = SimpleNamespace(pack=lambda which: tmp_path), faces[::-1]
    monkeypatch.setattr(measure, "get_analyser", lambda folder: SimpleNamespace(find=lambda image: found))

    def figures():
        return measure.wanted_figures(place, evaluator, image[None], [PAIR])

    assert all(v == 1 for k, v in figures().items())
    people.reverse()
    assert figures()["gender"] == figures()["expression"] == 0
    people.reverse()
    found.pop(0)  # the right one is missed
    assert (figures()["faces"], figures()["gender"], figures()["expression_sad"]) == (0, 0.5, 0)
    judged["item"] = np.array(["none"])
    assert (figures()["item_ball"], figures()["modifier_rain"]) == (0, 1)
