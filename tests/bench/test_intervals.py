"""Bootstrap intervals: scipy's own, and what pairing is for."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from bench import intervals

RNG = np.random.default_rng(5)
SCENE = (RNG.random(150) < 0.8).astype(float)
SIMILARITY = np.clip(RNG.normal(0.3, 0.2, 150), -1, 1)


def scipys(data, statistic):
    found = bootstrap(
        data, statistic, n_resamples=10000, paired=True, vectorized=False, method="percentile", random_state=3
    )
    return found.confidence_interval


@pytest.mark.parametrize("values", [SCENE, SIMILARITY, np.ones(20)])
def test_the_means_interval_is_scipys(values):
    result = intervals.mean(values)
    reference = scipys((values,), np.mean)
    assert result.value == pytest.approx(values.mean())
    assert (result.low, result.high) == pytest.approx(
        (reference.low, reference.high), abs=0.0075
    )  # a pair more or less is 0.0067


def test_products_and_ratios_are_resampled_by_pair():
    both = (SCENE, SIMILARITY)
    for result, statistic in (
        (intervals.product(*both), lambda a, b: a.mean() * b.mean()),
        (intervals.ratio(SIMILARITY, SCENE), lambda a, b: b.mean() / a.mean()),
    ):
        reference = scipys(both, statistic)
        assert result.value == pytest.approx(statistic(*both))
        assert (result.low, result.high) == pytest.approx((reference.low, reference.high), abs=0.008)


def test_a_paired_difference_is_as_narrow_as_the_pairs_agree():
    hard = RNG.normal(0, 1, 200)
    a, b = hard + 0.1 + RNG.normal(0, 0.01, 200), hard
    paired = intervals.difference(a, b)
    assert paired.low > 0.09
    assert paired.high < 0.11
    assert not intervals.mean(a).is_apart_from(intervals.mean(b))


def test_intervals_are_deterministic_and_share_resamples():
    together = intervals.resampled_means(np.stack([SCENE, SIMILARITY], 1))
    for k, values in enumerate((SCENE, SIMILARITY)):
        assert np.allclose(together[:, k], intervals.resampled_means(values), atol=1e-12)
    assert intervals.mean(SCENE) == intervals.mean(SCENE)


def test_no_face_anywhere_is_a_ratio_of_zero():
    assert intervals.ratio(np.zeros(5), np.zeros(5)).rounded() == (0.0, [0.0, 0.0])
