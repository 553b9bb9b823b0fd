"""Photo files that people have and that attackers send, made by code; run as a process of its own.

python -m tests.faces.odd_photos FOLDER
"""

from __future__ import annotations

import io
import json
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces import decode_photo, decode_upload

COLOUR = (200, 120, 40)
WHOLE = 64  # pixels a side of what is small
Want = tuple[int, int] | str  # (width, height) of what comes out, in COLOUR; or words of the sentence
CASES: dict[str, tuple[Callable[[], bytes], Want]] = {}


def case(name: str, want: Want) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    def add(make: Callable[[], bytes]) -> Callable[[], bytes]:
        CASES[name] = make, want
        return make

    return add


def encode(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def plain(width: int = WHOLE, height: int = WHOLE, mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (width, height), COLOUR).convert(mode)


def jpeg(width: int = WHOLE, height: int = WHOLE, **options) -> bytes:
    return encode(plain(width, height), "JPEG", quality=95, **options)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(*segments: bytes, after: bytes = b"") -> bytes:
    data = jpeg()
    return data[:2] + b"".join(segments) + data[2:] + after


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(*chunks: bytes) -> bytes:
    data = encode(plain(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def profile_of(space: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


def swapped_profile() -> bytes:
    """sRGB with the tags of red and blue changed for each other."""
    data = bytearray(profile_of("sRGB"))
    for i in range(struct.unpack(">I", data[128:132])[0]):
        at = 132 + 12 * i
        other = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(bytes(data[at : at + 4]))
        if other:
            data[at : at + 4] = other
    return bytes(data)


def tiff(entries: list[tuple[int, int, int, int]], pixels: bytes) -> bytes:
    """Little-endian; entries of (tag, kind, count, value), pixels from byte 8 on."""
    start = 8 + len(pixels)
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", start) + pixels + struct.pack("<H", len(entries)) + body + b"\0" * 4


def tiled(side: int, tile: int, pixels: bytes, parts: int = 1) -> bytes:
    entries = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    entries += [
        (322, 4, 1, tile),
        (323, 4, 1, tile),
        (324, 4, parts, 8),
        (325, 4, parts, len(pixels) if parts == 1 else 8),
    ]
    return tiff(entries, pixels)


def exif_of_copies() -> bytes:
    """500 entries that all point to the same 4 MB."""
    entries = b"".join(struct.pack("<HHII", n, 7, 4_000_000, 8) for n in range(500))
    return b"II*\0\x08\0\0\0\xf4\1" + entries + bytes(2**22)


def run_length_bmp() -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 0, 0, 1078, 40, 5000, 5000, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(2**22)


def compressed_zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(megabytes)) + packer.flush()


def gif_frame_outside() -> bytes:
    """A screen of 8 x 8 and a frame of 60000 x 60000."""
    return (
        b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, 60000, 60000, 0) + b"\2"
    )


case("motion photo", (WHOLE, WHOLE))(lambda: jpeg() + b"\0\0\0\x18ftypmp42" + b"\xff\xda\0\x08" * 100_000)
case("marker bytes in APPn", (WHOLE, WHOLE))(lambda: with_segments(segment(0xE5, b"\xff\xda" * 3000)))
case("marker bytes in a comment", (WHOLE, WHOLE))(lambda: with_segments(segment(0xFE, b"\xff\xda" * 3000)))
case("thumbnail in EXIF", (WHOLE, WHOLE))(
    lambda: with_segments(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0" + jpeg() * 20))
)
case("fill bytes before markers", (WHOLE, WHOLE))(
    lambda: (d := jpeg())[:2] + b"\xff" * 50 + segment(0xFE, b"x") + d[2:]
)
case("MPO", (WHOLE, WHOLE))(lambda: encode(plain(), "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32))]))
case("48 megapixels", (4032, 3024))(lambda: jpeg(8064, 6048))
case("48 megapixels of texture, progressive", (4032, 3024))(
    lambda: encode(_noise().resize((8064, 6048)), "JPEG", quality=50, progressive=True)
)
case("48 megapixels, progressive", (4032, 3024))(lambda: jpeg(8064, 6048, progressive=True))
case("200 megapixels", (4000, 3125))(lambda: encode(plain(16_000, 12_500, "L"), "JPEG"))
case("24 megapixels", (4347, 2898))(lambda: jpeg(6000, 4000))
case("progressive of 150 megapixels", "many and large")(
    lambda: encode(plain(15_000, 10_000, "L"), "JPEG", progressive=True)
)
case("200 scans", "hundreds of scans")(
    lambda: (d := jpeg(progressive=True))[:-2] + d[d.rindex(b"\xff\xda") : -2] * 200 + d[-2:]
)
case("orientation in EXIF", (32, WHOLE))(
    lambda: encode(plain(WHOLE, 32), "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0")
)
case("EXIF that points to itself", (WHOLE, WHOLE))(
    lambda: with_segments(
        segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\x88\x13" + struct.pack("<HHII", 0x9286, 7, 60_000, 8) * 5000)
    )
)
case("CMYK", (WHOLE, WHOLE))(lambda: encode(plain(mode="CMYK"), "JPEG", quality=95))
case("grey with a profile of RGB", (WHOLE, WHOLE))(
    lambda: encode(Image.merge("RGB", plain().split()), "JPEG", quality=95, icc_profile=profile_of("sRGB"))
)
case("profile of another space", (WHOLE, WHOLE))(lambda: encode(plain(), "PNG", icc_profile=profile_of("LAB")))
case("damaged profile", (WHOLE, WHOLE))(
    lambda: encode(plain(), "JPEG", quality=95, icc_profile=profile_of("sRGB")[:128] + b"\xff" * 500)
)
case("channels swapped by the profile", (WHOLE, WHOLE))(
    lambda: encode(Image.merge("RGB", plain().split()[::-1]), "PNG", icc_profile=swapped_profile())
)
case("PNG with 3 MB of profile", (WHOLE, WHOLE))(
    lambda: png_with(chunk(b"iCCP", b"big\0\0" + zlib.compress(profile_of("sRGB") + bytes(3_000_000))))
)
case("PNG with a text of 40 MB", (WHOLE, WHOLE))(
    lambda: png_with(chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(40_000_000))))
)
case("PNG with 2 MB of XMP", (WHOLE, WHOLE))(
    lambda: png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 2_000_000))
)
case("PNG, orientation as a text", (32, WHOLE))(
    lambda: (
        (d := encode(plain(WHOLE, 32), "PNG"))[:33]
        + chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 26\n" + b"49492a00080000000100120103000100000006000000")
        + d[33:]
    )
)
case("PNG whose EXIF points to itself", (WHOLE, WHOLE))(lambda: png_with(chunk(b"eXIf", exif_of_copies())))
case("PNG of 25 megapixels", (3549, 3549))(lambda: encode(plain(5000, 5000), "PNG", compress_level=1))
case("PNG of 48 megapixels", "at most 25 megapixels")(lambda: encode(plain(8064, 6048, "1"), "PNG"))
case("transparent, 25 megapixels", (3549, 3549))(lambda: encode(plain(5000, 5000, "RGBA"), "PNG", compress_level=1))
case("palette with transparency", (WHOLE, WHOLE))(
    lambda: encode(plain().quantize(4), "PNG", transparency=bytes([255, 0]))
)
case("palette of 25 megapixels", (3549, 3549))(
    lambda: encode(plain().quantize(4).resize((5000, 5000)), "PNG", compress_level=1)
)
case("GIF with transparency", (WHOLE, WHOLE))(lambda: encode(plain().quantize(4), "GIF", transparency=3))
case("GIF whose frame is larger than its screen", "megapixels")(gif_frame_outside)
case("animated PNG", (WHOLE, WHOLE))(
    lambda: encode(plain(), "PNG", save_all=True, append_images=[Image.new("RGB", (WHOLE, WHOLE))])
)
case("WebP", (WHOLE, WHOLE))(lambda: encode(plain(), "WEBP", lossless=True))
case("WebP of 12 megapixels", (3500, 3500))(
    lambda: encode(plain(3500, 3500), "WEBP", lossless=True, quality=0, method=0)
)
case("TIFF of one tile", (16, 16))(lambda: encode(plain(16, 16), "TIFF", compression="tiff_deflate"))
case("tile far larger than the picture", "far more than 25 megapixels")(
    lambda: tiled(16, 20_000, compressed_zeros(400))
)
case("tiles that overlap", "overlap")(lambda: tiled(4096, 16, b"\1" * 1_000_000, parts=60_000))
case("directory of copies", "TIFF whose directory overlaps")(
    lambda: tiff([(40_000 + n, 7, 5_000_000, 8) for n in range(900)], bytes(5_000_000))
)
case("TIFF in old JPEG", "compression of 1992")(
    lambda: tiff([(256, 4, 1, 16), (257, 4, 1, 16), (259, 3, 1, 6), (273, 4, 1, 8), (279, 4, 1, 4)], bytes(400))
)
case("float TIFF of 25 megapixels", (3549, 3549))(
    lambda: encode(Image.new("F", (5000, 5000), 0.55), "TIFF", compression="tiff_deflate")
)
case("16 bit", (WHOLE, WHOLE))(lambda: encode(Image.fromarray(np.full((WHOLE, WHOLE), 36_000, np.uint16)), "PNG"))
case("run-length BMP", "run-length encoded BMP")(run_length_bmp)
case("HEIC", "HEIC")(lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(1000))
case("video", "not an image but a video")(lambda: b"\0\0\0\x18ftypmp42" + bytes(1000))
case("web page", "not an image but a web page")(lambda: b"<!DOCTYPE html><html>404</html>")
case("PDF", "not an image but a PDF")(lambda: b"%PDF-1.4")
case("SVG", "not an image but an SVG")(lambda: b'<?xml version="1.0"?><svg></svg>')
for part in range(10):
    case(f"JPEG cut off at {part}/10", "is a damaged JPEG" if part else "an empty file")(
        lambda part=part: (d := encode(_noise(), "JPEG"))[: len(d) * part // 10]
    )


def _noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (WHOLE, WHOLE, 3)).astype(np.uint8))


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measured(name: str, data: bytes, folder: Path) -> dict[str, object]:
    """What becomes of one file: through the API's door if it is small enough, else through the page's."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    before, began = peak_mb(), time.process_time()
    outcome: dict[str, object] = {"name": name}
    try:
        if len(data) <= 10_000_000:
            image = decode_photo("photo 1", data).image
        else:
            (folder / "photo").write_bytes(data)
            image = decode_upload(folder / "photo", "photo 1", [folder]).image
        middle = image[image.shape[0] // 2, image.shape[1] // 2].tolist()
        outcome |= {"size": image.shape[1::-1], "pixel": middle}
    except BeyondFacialError as error:
        outcome |= {"sentence": str(error)}
    return outcome | {"seconds": time.process_time() - began, "grown": peak_mb() - before}


def all_measured(folder: Path) -> Iterator[dict[str, object]]:
    decode_photo("warm", jpeg())
    decode_photo("warm", encode(plain(), "PNG", icc_profile=swapped_profile()))
    for name, (make, _) in CASES.items():
        data = make()
        yield measured(name, data, folder)


if __name__ == "__main__":
    for outcome in all_measured(Path(sys.argv[1])):
        print(json.dumps(outcome), flush=True)
