"""95% intervals by resampling pairs: the same resamples for every method and column, so differences are paired."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DRAWS = 4000
CHUNK = 250  # draws at a time: 4000 x 1500 gathered at once is 48 MB a column


@dataclass(frozen=True)
class Estimate:
    """A value and its interval."""

    value: float
    low: float
    high: float

    def rounded(self) -> tuple[float, list[float]]:
        """As the JSON files hold it."""
        return round(self.value, 4), [round(self.low, 4), round(self.high, 4)]

    def is_apart_from(self, other: Estimate) -> bool:
        """Whether the two intervals do not touch."""
        return self.low > other.high or self.high < other.low


def resampled_means(values: np.ndarray, seed: int = 0, draws: int = DRAWS) -> np.ndarray:
    """The mean of each bootstrap resample of the pairs: (n,) or (n, columns) -> (draws,) or (draws, columns).

    The resamples follow from n, seed and draws alone.
    """
    values = np.asarray(values, np.float64)
    rng, n = np.random.default_rng(seed), len(values)
    parts = [values[rng.integers(n, size=(min(CHUNK, draws - i), n))].mean(1) for i in range(0, draws, CHUNK)]
    return np.concatenate(parts)


def interval(resampled: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(resampled, (2.5, 97.5))
    return float(low), float(high)


def mean(values: np.ndarray) -> Estimate:
    return Estimate(float(np.mean(values)), *interval(resampled_means(values)))


def difference(values: np.ndarray, others: np.ndarray) -> Estimate:
    """Of the means of two methods on the same pairs; paired, so what makes a pair hard or easy cancels."""
    return mean(np.asarray(values, np.float64) - np.asarray(others, np.float64))


def product(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Of two columns' means."""
    means = resampled_means(np.stack([a, b], 1))
    return Estimate(float(np.mean(a) * np.mean(b)), *interval(means.prod(1)))


def ratio(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Of two columns' means; 0 where the denominator is not positive, as it is without a face anywhere."""
    means = resampled_means(np.stack([a, b], 1))
    shares = np.where(means[:, 1] > 0, means[:, 0] / np.where(means[:, 1] > 0, means[:, 1], 1), 0)
    bottom = float(np.mean(b))
    return Estimate(float(np.mean(a)) / bottom if bottom > 0 else 0.0, *interval(shares))
