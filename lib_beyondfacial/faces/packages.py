"""Imports of the packages that run face packs, which may be missing or broken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import BeyondFacialError
from .vendor import use_vendor


@contextlib.contextmanager
def explain_import(package: str) -> Iterator[None]:
    """Around an import of the package (the host's or the private folder's): turn a failure into BeyondFacialError."""
    use_vendor()
    try:
        yield
    except Exception as error:  # broken packages cause many kinds of exceptions
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BeyondFacialError(
            f"{package} cannot be used here ({reason[:200]}); restart the host once with internet access, so that "
            "install.py can fetch it, or repair the package that is named."
        ) from error
