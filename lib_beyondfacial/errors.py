"""The one error whose text users read."""


class BeyondFacialError(ValueError):
    """A request that cannot be served; ``str(error)`` is one sentence naming the thing and what to do.

    Raised wherever a value of the user's enters (settings, photos, adapter files, the host's model) and caught
    once, in scripts/beyondfacial.py, which makes the request fail with that sentence. Nothing else is shown to
    users, so the sentence holds no folder of the machine and no part of a photo.
    """
