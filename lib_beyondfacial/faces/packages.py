"""The packages that run face packs: imported where they are used, for they may be absent or broken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import BeyondFacialError
from .vendor import use_vendor


@contextlib.contextmanager
def explain_import(package: str) -> Iterator[None]:
    """For an import of the package, the host's own or the private folder's: a failure becomes BeyondFacialError."""
    use_vendor()
    try:
        yield
    except Exception as error:  # a broken package beside it raises nearly anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BeyondFacialError(
            f"{package} cannot be used here ({reason[:200]}); restart the host once with internet access, so that "
            "install.py can fetch it, or repair the package that is named."
        ) from error
