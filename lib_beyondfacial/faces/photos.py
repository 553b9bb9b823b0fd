"""Photos from users: limits are checked before decoding, and every error names the photo."""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..common import open_regular
from ..errors import BeyondFacialError
from ..settings import MAX_REFERENCES
from .containers import Cleaned, RefusedError, clean
from .pixels import exif_orientation, to_pixels
from .tiff import orientation_of

MAX_BYTES = 10_000_000  # bytes of a photo in an API request
MAX_UPLOAD = 60_000_000  # bytes of an uploaded file; the largest phone photos have 40 MB
MAX_PIXELS = 25_000_000  # that are decoded
MAX_SIDE = 16_384  # OpenCV's warps stop at 32767
MAX_WEBP_PIXELS = 13_000_000  # Pillow's decoder takes 24 bytes a pixel
MAX_JPEG_PIXELS = 200_000_000  # that a JPEG may have: it is scaled down while it is decoded
MAX_PROGRESSIVE_PIXELS = 50_000_000  # of a JPEG in several scans: libjpeg holds it whole, in 2 bytes a value
KEPT_PIXELS = 12_600_000  # of a decoded photo, which stays in memory while it is looked at: phones have 12.5
KEPT_IN_ALL = 8 * KEPT_PIXELS
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")  # no EPS, PDF, SVG: they run programs
KNOWN = (
    (rb"\xff\xd8", "JPEG"),
    (rb"\x89PNG", "PNG"),
    (rb"GIF8", "GIF"),
    (rb"RIFF....WEBP", "WebP"),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "TIFF"),
    (rb"BM", "BMP"),
)
OTHERS = (  # files that users mistake for photos, by their first bytes
    (rb"....ftyp(heic|heix|hevc|mif1|msf1)", "a HEIC photo, which this Pillow does not read"),
    (rb"....ftypavi[fs]", "an AVIF picture, which this Pillow does not read"),
    (rb"....ftyp", "a video"),
    (rb"RIFF....(?!WEBP)|\x1a\x45\xdf\xa3", "a video or a sound"),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "a JPEG XL picture"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (rb"8BPS", "a Photoshop file"),
    (rb"%PDF", "a PDF"),
    (rb"%!PS", "a PostScript file"),
    (rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg", "an SVG drawing"),
    (rb"<(!doctype )?html", "a web page"),
    (rb"PK\x03\x04|Rar!|7z\xbc\xaf", "an archive"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (rb"$", "an empty file"),
)


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photo: its name for messages, and RGB uint8 (H, W, 3), upright."""

    name: str
    image: np.ndarray


def decode_photo(name: str, source: Any, pixels: int = KEPT_PIXELS) -> Photo:
    """Decode a photo from memory to upright RGB in sRGB, shrunk to at most `pixels`.

    Args:
        name: its name in messages, as in "photo 2".
        source: base64 or a data: URL (text), an encoded file (bytes), a PIL image, or an array: uint8 or uint16,
            (H, W) or (H, W, 1..4).

    Raises BeyondFacialError naming the photo: over 10 MB, over 25 megapixels (a JPEG: over 200), not an image, a URL
    or a path. It never fetches URLs or reads files.
    """
    if isinstance(source, str):
        source = _base64_to_bytes(name, source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        if len(source) > MAX_BYTES:
            raise _too_many_bytes(name, MAX_BYTES)
        return _decode_bytes(name, bytes(source), pixels)
    if isinstance(source, np.ndarray):
        source = _array_to_image(name, source)
    if isinstance(source, Image.Image):
        return _decode_image(name, source, Cleaned(b""), pixels)
    raise BeyondFacialError(f'"{name}" is a {type(source).__name__}; send the photo as base64 text.')


class Upload(bytes):
    """An upload's content, with the name of the file that it was read from: it can be copied, pickled and outlives it.

    name, orig_name: as of gradio's own uploads.
    """

    name: str
    orig_name: str


def read_upload(upload: Any) -> Any:
    """The upload with its content instead of its file. It stays as it is where it cannot be read (decode_upload says
    why) or is larger than MAX_BYTES: a page may hold 16 of them at once."""
    try:
        name, data = _read_upload(upload, None, None)
    except BeyondFacialError:
        return upload
    if len(data) > MAX_BYTES:
        return upload
    made = Upload(data)
    made.name, made.orig_name = os.fspath(getattr(upload, "name", upload)), name
    return made


def decode_upload(
    upload: Any, name: str | None = None, folders: Sequence[Path] | None = None, pixels: int = KEPT_PIXELS
) -> Photo:
    """Decode a photo from the UI's upload component: a file in its temp folder, or an image.

    Args:
        upload: path, or an object with `.name` (and `.orig_name`) as gradio hands them out, an Upload, or a PIL image
            or array.
        name: its name in messages; by default the file's name.
        folders: where uploads may lie; by default the system's and gradio's temp folders. A file elsewhere is refused.
            That does not keep the server's own files from being opened: gradio 3.41 copies any file that a request to
            the UI names into its temp folder, and such a copy looks like an upload. So nothing but the
            decoded picture is returned, and messages hold the file's name, no folder and none of its bytes.
    """
    if isinstance(upload, (Image.Image, np.ndarray)):
        return decode_photo(name or "the photo", upload, pixels)
    name, data = _read_upload(upload, name, folders)
    return _decode_bytes(name, data, pixels)


def _read_upload(upload: Any, name: str | None, folders: Sequence[Path] | None) -> tuple[str, bytes]:
    """Name and content of an uploaded file."""
    if isinstance(upload, Upload):
        return name or upload.orig_name, upload
    where = upload if isinstance(upload, (str, os.PathLike)) else getattr(upload, "name", None)
    if not isinstance(where, (str, os.PathLike)) or not os.fspath(where):
        raise BeyondFacialError("A photo is missing; upload it again.")
    try:
        path = Path(where).resolve()
        name = name or Path(str(getattr(upload, "orig_name", None) or path)).name
        allowed = _upload_folders() if folders is None else folders
        if not any(path.is_relative_to(folder.resolve()) for folder in allowed):
            raise BeyondFacialError(f'"{name}" was not uploaded in the UI; upload the photo.')
        with open_regular(path) as file:
            data = file.read(MAX_UPLOAD + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, BeyondFacialError):
            raise
        raise BeyondFacialError(f'"{name or "the photo"}" cannot be read any more; upload it again.') from error
    if len(data) > MAX_UPLOAD:
        raise _too_many_bytes(name, MAX_UPLOAD)
    return name, data


def pixels_each(count: int) -> int:
    """The number of pixels to which each photo is shrunk, so that all of them fit in memory together."""
    return min(KEPT_PIXELS, KEPT_IN_ALL // max(count, 1))


def check_count(photos: Sequence[Any]) -> None:
    """BeyondFacialError unless there are 1 to 16 photos."""
    if not 1 <= len(photos) <= MAX_REFERENCES:
        raise BeyondFacialError(f"{len(photos)} photos were given; give 1 to {MAX_REFERENCES} photos of one person.")


def list_names(names: Sequence[str]) -> str:
    """Quoted names, joined for a sentence."""
    quoted = [f'"{name}"' for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _upload_folders() -> list[Path]:
    given = os.environ.get("GRADIO_TEMP_DIR")
    return [Path(folder) for folder in (given, tempfile.gettempdir()) if folder]


def _base64_to_bytes(name: str, text: str) -> bytes:
    if len(text) > MAX_BYTES * 4 // 3 * 1.05 + 1000:  # room for line breaks and the data: header
        raise _too_many_bytes(name, MAX_BYTES)
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


def _decode_bytes(name: str, data: bytes, pixels: int) -> Photo:
    """Decode a file; first refuse it if its structure (scans, chunks) or the size in its header is over a limit."""
    Image.init()
    formats = [known for known in FORMATS if known in Image.OPEN]
    try:
        cleaned = clean(data)
    except RefusedError as error:
        raise BeyondFacialError(f'"{name}" is {error}.') from error
    kind = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about large pictures; this module has its own limit
            image = _open(cleaned, formats)
        kind = str(image.format)
        with image:
            return _decode_image(name, image, cleaned, pixels)
    except BeyondFacialError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BeyondFacialError(f'"{name}" has far more than 25 megapixels; send a smaller one.') from error
    except Exception as error:
        raise _unreadable(name, data, kind) from error


def _open(cleaned: Cleaned, formats: list[str]) -> Image.Image:
    """Open the picture without decoding; Image.open would refuse a JPEG of 200 megapixels."""
    file = io.BytesIO(cleaned.data)
    if not cleaned.is_jpeg:
        return Image.open(file, formats=formats)
    return Image.OPEN["JPEG"][0](file)


def _decode_image(name: str, image: Image.Image, file: Cleaned, pixels: int) -> Photo:
    """Decode to upright RGB; of an animation, the first frame."""
    width, height = image.size
    limit = MAX_WEBP_PIXELS if image.format == "WEBP" else MAX_PIXELS
    if file.is_jpeg:
        limit = MAX_JPEG_PIXELS if file.scans <= 1 else MAX_PROGRESSIVE_PIXELS
        scale = next((each for each in (1, 2, 4) if width * height <= MAX_PIXELS * each**2), 8)
        image.draft(None, (max(width // scale, 1), max(height // scale, 1)))
    if width < 1 or height < 1 or width * height > limit or max(image.size) > MAX_SIDE:
        raise BeyondFacialError(
            f'"{name}" is {width} x {height} pixels; send one of at most {limit // 1_000_000} megapixels and '
            f"{MAX_SIDE} pixels a side."
        )
    try:
        image.load()
        orientation = file.orientation or _orientation(image)
        profile = image.info.get("icc_profile") if file.profile is None else file.profile
        return Photo(name, to_pixels(image, orientation, profile or b"", pixels))
    except Exception as error:  # damaged files cause many kinds of exceptions
        raise _unreadable(name, file.data, str(image.format or "picture")) from error


def _orientation(image: Image.Image) -> int:
    exif = image.info.get("exif")
    if isinstance(exif, bytes):  # of a file: otherwise Pillow copies a part as often as the file says
        return orientation_of(exif.removeprefix(b"Exif\0\0"))
    return 1 if image.format else exif_orientation(image)


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


def _too_many_bytes(name: str, limit: int) -> BeyondFacialError:
    return BeyondFacialError(f'"{name}" is larger than {limit // 1_000_000} MB; send a smaller one.')


def _unreadable(name: str, data: bytes, kind: str) -> BeyondFacialError:
    """The error for a file that cannot be read, with its kind if known."""
    kind = kind or next((known for start, known in KNOWN if re.match(start, data, re.DOTALL)), "")
    if kind:
        return BeyondFacialError(f'"{name}" is a damaged {kind}, cut off or changed on its way; send it again.')
    known = "JPEG, PNG, WebP, GIF, BMP or TIFF"
    head = data[:2000].lstrip()
    for start, what in OTHERS:
        if re.match(start, head, re.DOTALL | re.IGNORECASE):
            return BeyondFacialError(f'"{name}" is not an image but {what}; send the photo as {known}.')
    return BeyondFacialError(f'"{name}" cannot be read (damaged, or not {known}); send another.')
