"""Builders of synthetic adapter files as fixtures."""

from __future__ import annotations

import pytest

from tests.adapters.synthetic import flat_keys, random_adapter


@pytest.fixture(scope="session")
def make_adapter():
    """random_adapter(widths, context_dim, lora_rank=0, tokens=4, seed=0)"""
    return random_adapter


@pytest.fixture(scope="session")
def flatten():
    """flat_keys(weights, section="ip_adapter")"""
    return flat_keys
