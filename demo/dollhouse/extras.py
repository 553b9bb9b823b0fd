"""What a prompt can add to a person and a scene, and that is not identity: an expression, something worn on the head,
something held, a second scene word. Here are its words and its chances; `draw_extras.py` draws it.
"""

from __future__ import annotations

import numpy as np

EXPRESSIONS = ("neutral", "smiling", "sad", "open mouth")
ACCESSORIES = ("none", "sunglasses", "hat", "cap")
OBJECTS = ("none", "balloon", "umbrella", "ball")
MODIFIERS = ("none", "night", "rain")

# Before the person word; an open mouth is named among the looks.
EXPRESSION_WORDS = {"neutral": ("",), "smiling": ("smiling", "happy"), "sad": ("sad", "gloomy"), "open mouth": ("",)}
ACCESSORY_WORDS = {
    "none": ("",),
    "sunglasses": ("wearing sunglasses",),
    "hat": ("wearing a hat",),
    "cap": ("wearing a cap",),
}
OBJECT_WORDS = {
    "none": ("",),
    "balloon": ("holding a balloon", "with a balloon"),
    "umbrella": ("holding an umbrella", "with an umbrella"),
    "ball": ("holding a ball", "with a ball"),
}
MODIFIER_WORDS = {"none": ("",), "night": ("at night", "in the night"), "rain": ("in the rain", "in rain")}
POSITION_WORDS = ("on the left", "on the right")
GROUP_WORDS = {
    ("man", "man"): ("two men", "two guys", "two people"),
    ("woman", "woman"): ("two women", "two ladies", "two people"),
    ("man", "woman"): ("two people",),
    ("woman", "man"): ("two people",),
}

PLAIN_SHARE = 0.35  # of the pictures: they add nothing
NONE = {"expression": 0.4, "accessory": 0.5, "item": 0.5, "modifier": 0.55}  # of the others, in each respect


def choose(rng: np.random.Generator, options: tuple[str, ...], none: float) -> str:
    """The first of the options with chance `none`, else any of the others."""
    return options[0] if rng.random() < none else str(rng.choice(options[1:]))


def choose_modifier(rng: np.random.Generator, scene: str) -> str:
    """No second night for the scene that is one, and no rain in a cave."""
    modifier = choose(rng, MODIFIERS, NONE["modifier"])
    return MODIFIERS[0] if (scene, modifier) in (("night", "night"), ("cave", "rain")) else modifier
