"""eq. 11-12: the start that carries an identity is still a start."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn
from scipy.stats import ks_2samp

from lib_beyondfacial.method import start_noise
from lib_beyondfacial.method.start_noise import Box

BOX = Box(3, 6, 8, 11)


def noise(seed, size=(16, 16)):
    return torch.randn(4, *size, generator=torch.Generator().manual_seed(seed))


def latent(seed=99):
    return 2 * noise(seed, BOX.size) + torch.tensor([3.0, -2.0, 1.0, 0.5])[:, None, None]


def test_the_band_is_scipys_dct():
    patch = noise(0, (5, 7))
    found = start_noise.low_band(patch, 1.0)
    assert torch.allclose(found, torch.from_numpy(dctn(patch.double().numpy(), axes=(1, 2), norm="ortho")), atol=1e-12)


def test_the_projector_is_one():
    patch = noise(1, (6, 6))
    once = start_noise.from_band(start_noise.low_band(patch, 0.5), (6, 6))
    assert torch.allclose(start_noise.from_band(start_noise.low_band(once, 0.5), (6, 6)), once, atol=1e-12)


def test_strength_zero_is_the_very_tensor():
    n = noise(2)
    assert start_noise.prepend_identity(n, latent(), BOX, 0.0) is n


def test_only_the_box_and_only_the_low_band_change():
    n = noise(3)
    edited = start_noise.prepend_identity(n, latent(), BOX, 0.5, band=0.6)
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[BOX.top : BOX.bottom, BOX.left : BOX.right] = False
    assert torch.equal(edited[:, outside], n[:, outside])
    cut = (slice(None), slice(BOX.top, BOX.bottom), slice(BOX.left, BOX.right))
    before, after = (start_noise.low_band(t[cut], 1.0) for t in (n, edited))
    assert (after - before)[:, :3, :3].abs().max() > 0.1
    assert torch.allclose(after[:, 3:], before[:, 3:], atol=1e-6)
    assert torch.allclose(after[:, :, 3:], before[:, :, 3:], atol=1e-6)


def test_start_correlates_with_the_identity_by_strength():
    n, z = noise(4), latent()
    low = start_noise.low_band(z, 0.6)
    cosines = []
    for g in (0.2, 0.5, 0.8):
        patch = start_noise.prepend_identity(n, z, BOX, g, 0.6)[:, BOX.top : BOX.bottom, BOX.left : BOX.right]
        cosines.append(
            torch.cosine_similarity(start_noise.low_band(patch, 0.6).flatten(), low.flatten(), dim=0).item()
        )
    assert cosines == sorted(cosines)
    assert cosines[-1] > cosines[0] + 0.2


def test_two_bands_that_have_nothing_in_common_are_mixed_by_g():
    """sqrt(1 - g^2) of the noise's, g of the identity's, which first gets the noise's norm."""
    before, identity = torch.zeros(1, 2, 2, dtype=torch.float64), torch.zeros(1, 2, 2, dtype=torch.float64)
    before[0, 0, 1], identity[0, 1, 0] = 2.0, 5.0
    mixed = start_noise.mix_band(before, identity, 0.6, 0.02)
    assert torch.allclose(mixed[0], torch.tensor([[0.0, 1.6], [1.2, 0.0]], dtype=torch.float64), atol=1e-9)


def test_over_a_thousand_seeds_the_starts_statistics_stay():
    z, high_before, high_after, means, stds = latent(), [], [], [], []
    for seed in range(1000):
        n = noise(seed)
        edited = start_noise.prepend_identity(n, z, BOX, 0.5, 0.6)
        means.append((edited.mean((1, 2)) - n.mean((1, 2))).abs().max())
        stds.append((edited.std((1, 2)) - n.std((1, 2))).abs().max())
        for t, kept in ((n, high_before), (edited, high_after)):
            patch = start_noise.low_band(t[:, BOX.top : BOX.bottom, BOX.left : BOX.right], 1.0)
            kept.append(patch[:, 3:, 3:].flatten())
    assert max(means) < 0.02
    assert max(stds) < 0.02
    other = torch.cat(
        [start_noise.low_band(noise(s + 5000)[:, 3:8, 6:11], 1.0)[:, 3:, 3:].flatten() for s in range(1000)]
    )
    assert torch.allclose(torch.cat(high_before), torch.cat(high_after), atol=1e-5)
    assert ks_2samp(torch.cat(high_after).numpy(), other.numpy()).pvalue > 0.01


def test_same_seed_same_start_and_every_image_keeps_its_own():
    a, b = (start_noise.prepend_identity(noise(7), latent(), BOX, 0.4) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.allclose(a, start_noise.prepend_identity(noise(8), latent(), BOX, 0.4))


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.floats(0.01, 1.0), st.floats(0.1, 1.0), st.integers(2, 9), st.integers(2, 9))
def test_energy_and_mean_hold_for_any_box_strength_and_band(seed, g, band, height, width):
    n, box = noise(seed), Box(2, 3, 2 + height, 3 + width)
    edited = start_noise.prepend_identity(n, 5 * noise(seed + 1, box.size), box, g, band)
    assert torch.isfinite(edited).all()
    assert (edited.mean((1, 2)) - n.mean((1, 2))).abs().max() < 0.02
    energy = edited.pow(2).sum((1, 2)) / n.pow(2).sum((1, 2))
    assert torch.allclose(energy, torch.ones(4), atol=1e-4)


def test_an_empty_identity_latent_is_no_division_by_zero():
    assert torch.isfinite(start_noise.prepend_identity(noise(9), torch.zeros(4, *BOX.size), BOX, 0.5)).all()


def test_boxes():
    a = torch.zeros(16, 16)
    assert start_noise.box_of_region(a, 0.6) is None
    a[3:7, 9:12] = 0.8
    a[4, 10] = 1.0
    a[12, 2] = 0.9  # another blob, which does not hold the maximum
    box = start_noise.box_of_region(a, 0.6)
    assert (box.top, box.bottom) == (3, 7) or box.size[0] in (3, 4)
    assert 3 <= box.left <= box.right <= 13
    assert start_noise.fit_box(Box(-2, 14, 3, 19), 16, 16) == Box(0, 11, 5, 16)
    prior = start_noise.prior_box(64, 96)
    assert prior.size == (16, 16)
    assert prior.left == pytest.approx(40)
