"""Photos from users: limits are checked before anything is decoded, and every refusal names the photo."""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import BeyondFacialError
from ..settings import MAX_REFERENCES

MAX_BYTES = 10_000_000
MAX_PIXELS = 25_000_000
MAX_SIDE = 16_384  # OpenCV's warps stop at 32767
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")  # no EPS, PDF, SVG: they run programs
MAX_SCANS = 50  # of a JPEG: encoders write a dozen; each costs a pass over all pixels and 42 bytes
GREY = 127  # what transparency is laid over
ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photo: its name for messages, and RGB uint8 (H, W, 3), upright."""

    name: str
    image: np.ndarray


def decode_photo(name: str, source: Any) -> Photo:
    """Any photo that is held in memory, upright and as RGB.

    Args:
        name: what messages call it, as in "photo 2".
        source: base64 or a data: URL (text), an encoded file (bytes), a PIL image, or an array: uint8 or uint16,
            (H, W) or (H, W, 1..4).

    Raises BeyondFacialError naming the photo: over 10 MB, over 25 megapixels, not an image, a URL or a path.
    Nothing is ever fetched or read from disk here.
    """
    if isinstance(source, str):
        return _decode_bytes(name, _base64_to_bytes(name, source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode_bytes(name, bytes(source))
    if isinstance(source, np.ndarray):
        source = _array_to_image(name, source)
    if isinstance(source, Image.Image):
        return _decode_image(name, source)
    raise BeyondFacialError(f'"{name}" is a {type(source).__name__}; send the photo as base64 text.')


def decode_upload(upload: Any, name: str | None = None, folders: Sequence[Path] | None = None) -> Photo:
    """A photo from the UI's upload component: a file in its temp folder, or an image.

    Args:
        upload: path, or an object with `.name` (and `.orig_name`) as gradio hands them out, or a PIL image or array.
        name: what messages call it; the file's name if left out.
        folders: where uploads may lie; by default the system's and gradio's temp folders. A file elsewhere is refused.
            That does not keep the server's own files from being opened: gradio 3.41 copies any file that a request to
            the page names into its temp folder, and such a copy cannot be told from an upload. So nothing but the
            decoded picture is returned, and messages hold the file's name, no folder and none of its bytes.
    """
    if isinstance(upload, (Image.Image, np.ndarray)):
        return decode_photo(name or "the photo", upload)
    where = upload if isinstance(upload, (str, os.PathLike)) else getattr(upload, "name", None)
    if not isinstance(where, (str, os.PathLike)) or not os.fspath(where):
        raise BeyondFacialError("A photo is missing; upload it again.")
    try:
        path = Path(where).resolve()
        name = name or Path(str(getattr(upload, "orig_name", None) or path)).name
        allowed = _upload_folders() if folders is None else folders
        if not any(path.is_relative_to(folder.resolve()) for folder in allowed):
            raise BeyondFacialError(f'"{name}" was not uploaded through the page; upload the photo.')
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, BeyondFacialError):
            raise
        raise BeyondFacialError(f'"{name or "the photo"}" cannot be read any more; upload it again.') from error
    return _decode_bytes(name, data)


def check_count(photos: Sequence[Any]) -> None:
    """At least one photo and at most 16, or BeyondFacialError."""
    if not 1 <= len(photos) <= MAX_REFERENCES:
        raise BeyondFacialError(f"{len(photos)} photos were given; give 1 to {MAX_REFERENCES} photos of one person.")


def list_names(names: Sequence[str]) -> str:
    """Names in quotes, as a sentence lists them."""
    quoted = [f'"{name}"' for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _upload_folders() -> list[Path]:
    given = os.environ.get("GRADIO_TEMP_DIR")
    return [Path(folder) for folder in (given, tempfile.gettempdir()) if folder]


def _base64_to_bytes(name: str, text: str) -> bytes:
    if len(text) > MAX_BYTES * 4 // 3 * 1.05 + 1000:  # room for line breaks and the data: header
        raise _too_many_bytes(name)
    body = text.strip()
    if re.match(r"(?!data:)[A-Za-z][A-Za-z0-9+.-]*://", body):
        raise BeyondFacialError(f'"{name}" is a URL; nothing is fetched, send the photo itself as base64.')
    if body[:5].lower() == "data:":
        header, comma, body = body.partition(",")
        if not comma or not header.lower().endswith(";base64"):
            raise BeyondFacialError(f'"{name}" is a data: URL without base64; send "data:image/png;base64,...".')
    try:
        data = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BeyondFacialError(f'"{name}" is not base64 (file paths are not read); send the photo itself.') from error
    if not data:
        raise BeyondFacialError(f'"{name}" is empty; send the photo as base64.')
    return data


def _decode_bytes(name: str, data: bytes) -> Photo:
    """Limits first: bytes, then the pixels that the header announces, then decoding."""
    if len(data) > MAX_BYTES:
        raise _too_many_bytes(name)
    Image.init()
    formats = [known for known in FORMATS if known in Image.OPEN]
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            is_jpeg = image.format in ("JPEG", "MPO") or "jpeg" in str(image.info.get("compression"))
            if is_jpeg and data.count(b"\xff\xda") > MAX_SCANS:
                raise BeyondFacialError(f'"{name}" is a JPEG in hundreds of scans; save it anew as an ordinary one.')
            return _decode_image(name, image)
    except BeyondFacialError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BeyondFacialError(f'"{name}" has far more than 25 megapixels; send a smaller one.') from error
    except Exception as error:
        raise _unreadable(name) from error


def _decode_image(name: str, image: Image.Image) -> Photo:
    """RGB and upright; of an animation the first frame."""
    width, height = image.size
    if width < 1 or height < 1 or width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise BeyondFacialError(
            f'"{name}" is {width} x {height} pixels; send one of at most 25 megapixels and {MAX_SIDE} pixels a side.'
        )
    try:
        orientation = _orientation(image)
        rgb = _to_rgb(image)
        if orientation in UPRIGHT:
            rgb = rgb.transpose(UPRIGHT[orientation])
    except Exception as error:  # damaged files raise nearly anything in the decoders
        raise _unreadable(name) from error
    pixels = np.array(rgb, dtype=np.uint8)
    pixels.flags.writeable = False
    return Photo(name, pixels)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; 1 where it is absent or damaged (the picture may still be fine)."""
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _deep_grey_to_8_bit(image)
    has_alpha = "A" in image.mode or "a" in image.mode or image.info.get("transparency") is not None
    if has_alpha and image.mode != "LAB":
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (GREY, GREY, GREY, 255))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")


def _deep_grey_to_8_bit(image: Image.Image) -> Image.Image:
    """16 bit, 32 bit and float grey to 8 bit; Pillow itself would clip at 255."""
    values = np.asarray(image)
    if image.mode == "F":
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
        values *= 255.0 if values.size and values.max() <= 1.0 else 1.0
        return Image.fromarray(np.rint(np.clip(values, 0, 255, out=values), out=values).astype(np.uint8))
    deep: np.ndarray = np.clip(values, 0, 65535).astype(np.uint32)
    if image.mode != "I" or deep.max(initial=0) > 255:  # older Pillow opens 16-bit PNG as "I"
        deep = (deep + 128) // 257
    return Image.fromarray(deep.astype(np.uint8))


def _array_to_image(name: str, array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype == np.uint16:
        array = (array // 257).astype(np.uint8)
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (2, 3, 4))
    if array.dtype != np.uint8 or not is_picture or 0 in array.shape:
        raise BeyondFacialError(
            f'"{name}" is an array of {array.dtype}, shape {array.shape}; give uint8 RGB (H, W, 3).'
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _too_many_bytes(name: str) -> BeyondFacialError:
    return BeyondFacialError(f'"{name}" is larger than {MAX_BYTES // 1_000_000} MB; send a smaller one.')


def _unreadable(name: str) -> BeyondFacialError:
    known = "JPEG, PNG, WebP, GIF, BMP, TIFF"
    return BeyondFacialError(f'"{name}" is not an image that can be read ({known}), or is damaged; send another.')
