"""BeyondFacial: identity-preserving pictures of whole scenes (docs/method.md). Importing this does nothing."""

__version__ = "0.1.0"
