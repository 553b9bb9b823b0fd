"""The host's selectable scripts and its face restoration, as far as they affect the identity."""

from __future__ import annotations

from typing import Any

from PIL import Image

TILE_WORDS = ("upscale", "tile", "tiling")
MASK_SUFFIX = "-beyondfacial-mask"
IN_TILES = (
    'The script "{title}" redraws a picture in tiles, in which no face belongs to every one, so the identity stays '
    'out of it; set "in_tiles" to true to have it in every tile.'
)
RESTORED = (
    "Face restoration is on, which redraws the face after the identity has made it; switch it off to keep the person."
)


def running_script(p: Any) -> str:
    """The title of the selectable script that runs this request ("Prompt matrix"); "" if there is none."""
    args = getattr(p, "script_args", None) or (0,)
    number = args[0] if isinstance(args[0], int) else 0
    if number < 1:
        return ""
    listed = getattr(p.scripts, "selectable_scripts", [])
    return str(listed[number - 1].title()) if number <= len(listed) else "script"


def redraws_tiles(p: Any) -> str:
    """The title of the script that redraws the picture in tiles; "" if there is none."""
    title = running_script(p)
    is_img2img = getattr(p, "init_images", None) is not None
    return title if is_img2img and any(word in title.lower() for word in TILE_WORDS) else ""


def restores_faces(p: Any) -> bool:
    return bool(getattr(p, "restore_faces", False))


def save_mask(p: Any, mask: Image.Image, position: int, text: str) -> str:
    """Save a picture's mask beside the pictures, like the host's masks; returns the file's name."""
    from modules import images, shared

    seeds, prompts = p.all_seeds, p.all_prompts
    path, _ = images.save_image(
        mask, p.outpath_samples, "", seeds[position % len(seeds)], prompts[position % len(prompts)],
        shared.opts.samples_format, info=text, p=p, suffix=MASK_SUFFIX,
    )  # fmt: skip
    return str(path).replace("\\", "/").rsplit("/", 1)[-1]
