"""From the bytes of an image file to pixels: the one place that decoders are called from.

Whatever the bytes are, the outcome is uint8 RGB pixels (H, W, 3) or BadImageError with one of the reasons

    empty               no bytes
    not_an_image        HTML, text, noise
    unsupported_format  an image that is not read: HEIC, SVG, TIFF, PSD, EPS, PDF, FITS, ICO, JPEG 2000/XL
    too_large           more pixels than headers.MAX_PIXELS, or more scans than headers.MAX_SCANS; told from
                        the header, nothing is decoded
    truncated           ends too early
    corrupt             the decoder found damage

| file                                | outcome                                                            |
|-------------------------------------|--------------------------------------------------------------------|
| JPEG, PNG, GIF, BMP, WebP, AVIF     | read by content, whatever the name says                            |
| grey, palette, 1 bit                | RGB                                                                |
| CMYK, YCCK JPEG                     | RGB by Pillow's conversion, without colour profiles                |
| alpha, palette with transparency    | laid on white, as a web page shows it                              |
| 16 bit                              | the upper 8 bits                                                   |
| animated                            | the first frame                                                    |
| 1×1, 10000×1                        | read as they are                                                   |
| Exif orientation 1–8                | applied to JPEG, where cameras write it; not in other formats      |
| flipped bytes in a JPEG             | `corrupt` where the decoder notices; what it cannot notice is read |
| junk between the pixels and EOI     | read: every row was decoded before it                              |
| GIF with a frame beyond its screen  | as large as the frame needs, and limited by that                   |
| AVIF with a frame beyond its `ispe` | scaled to it by libavif, whose own limit (16384²) bounds the frame |

Want of memory is no such reason: MemoryError goes through, for `reading.patiently` to try again.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import simplejpeg
from numpy.typing import NDArray

# Pillow would import the readers when they are first needed, take a failure (too many open files) for a
# reader that was not built, and from then on every file of that format for damaged.
from PIL import (  # noqa: F401
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from smelt.data.headers import MAX_PIXELS, Header, probe
from smelt.errors import BadImageError

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]

__all__ = ["Box", "Pixels", "crop_resize", "decode", "load_crop", "probe"]

_SMALL = 64 * 64  # pixels up to which numpy mirrors quicker than torch starts to
_ROWS_BELOW = 16  # rows decoded below a box: upsampling of colour looks at neighbours
_STRIP = 1 << 20  # pixels laid on white at a time
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF")
_NO_MEMORY = ("out of memory", "insufficient memory", "cannot allocate", "not enough memory")


def load_crop(
    data: bytes, box: Box | None, size: tuple[int, int], flip: bool, header: Header | None = None
) -> Pixels:
    """The seam: the part `box` of the image file `data`, resized to `size`, mirrored if `flip`.

    box: (left, top, right, bottom) in pixels of the decoded image, rounded to whole ones; None: all of it.
    size: (height, width). header: what `probe(data)` gave, where the caller has it. Returns uint8
    (height, width, 3). Raises BadImageError only; damage below the box may go unseen (`decode` sees it).
    """
    header = header or probe(data)
    if box is not None and header.in_part:
        rows = math.ceil(box[3]) + _ROWS_BELOW
        if rows < header.height:
            return crop_resize(_guarded(_decode_jpeg, data, header, rows), box, size, flip)
    return crop_resize(decode(data, header), box, size, flip)


def crop_resize(pixels_HW3: Pixels, box: Box | None, size: tuple[int, int], flip: bool) -> Pixels:
    """Cut `box`, resize with an antialiased triangle filter (as Pillow's BILINEAR) and mirror.

    The result may share memory with `pixels_HW3`.
    """
    import torch  # not at the top: the report decodes, and must start quickly

    height, width = pixels_HW3.shape[:2]
    if box is not None:
        left, top = min(max(round(box[0]), 0), width - 1), min(max(round(box[1]), 0), height - 1)
        right, bottom = max(min(round(box[2]), width), left + 1), max(min(round(box[3]), height), top + 1)
        pixels_HW3 = pixels_HW3[top:bottom, left:right]
        height, width = bottom - top, right - left
    if (height, width) == size and (not flip or height * width <= _SMALL):
        return pixels_HW3[:, ::-1] if flip else pixels_HW3
    # The batch axis has to come first and the channels innermost, in one piece: only then does torch take
    # its vector paths for interleaved uint8 (half the time of the resize, a tenth of the mirroring).
    image = torch.from_numpy(np.require(pixels_HW3, requirements=("C", "W")))[None].permute(0, 3, 1, 2)
    if (height, width) != size:
        # F.interpolate without its checks
        resize: Callable[..., torch.Tensor] = torch._C._nn._upsample_bilinear2d_aa
        image = resize(image, list(size), False)
    if flip:
        image = image.flip(3)
    mirrored: Pixels = image.permute(0, 2, 3, 1).numpy()[0]
    return mirrored


def decode(data: bytes, header: Header | None = None) -> Pixels:
    """All pixels of an image file, uint8 (H, W, 3); raises BadImageError only."""
    header = header or probe(data)
    if header.format == "JPEG" and header.components in (1, 3):
        height = header.height if header.orientation < 5 else header.width
        return _upright(_guarded(_decode_jpeg, data, header, height), header.orientation)
    return _upright(_guarded(_decode_any, data, header), header.orientation)


def _guarded(decoder: Callable[..., Pixels], data: bytes, header: Header, *rest: object) -> Pixels:
    """Call a decoder, which on damaged input may raise nearly anything: OSError, SyntaxError, …

    MemoryError and errors of the system (an OSError with a number) are not the image's: they go through.
    """
    try:
        return decoder(data, header, *rest)
    except (MemoryError, BadImageError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        text = str(error)
        if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
            raise BadImageError("too_large", text) from error
        if any(words in text.lower() for words in _NO_MEMORY) or not _memory_for(header):
            raise MemoryError(text) from error
        ended = any(word in text.lower() for word in ("truncated", "premature end of jpeg", "unexpected end"))
        raise BadImageError("truncated" if ended else "corrupt", text) from error


def _memory_for(header: Header) -> bool:
    """Whether the memory that decoding takes could be had: some decoders take want of it for damage."""
    try:
        np.empty(8 * header.width * header.height, np.uint8)  # never touched: asked for only
    except MemoryError:
        return False
    return True


def _decode_jpeg(data: bytes, header: Header, rows: int) -> Pixels:
    """The first `rows` rows of a JPEG, as stored.

    To decode a part, the height in the file's header is replaced: the decoder does those rows, then runs
    over the rest of the file and complains of "extraneous bytes" before its end. It reports the first
    complaint only, so that one, and no other, tells that all rows before it were sound.
    """
    width = header.width if header.orientation < 5 else header.height
    pixels_HW3 = np.empty((rows, width, 3), np.uint8)
    if rows != (header.height if header.orientation < 5 else header.width):
        patched = bytearray(data)
        patched[header.height_at : header.height_at + 2] = rows.to_bytes(2, "big")
        data = bytes(patched)
    try:
        filled = simplejpeg.decode_jpeg(data, "RGB", buffer=pixels_HW3, strict=True)
    except ValueError as error:
        if not str(error).endswith("extraneous bytes before marker 0xd9"):
            raise
    else:
        if filled.shape != pixels_HW3.shape:
            raise BadImageError("corrupt", f"decodes to {filled.shape}, its header says {pixels_HW3.shape}")
    return pixels_HW3


def _decode_any(data: bytes, _: Header) -> Pixels:
    """By Pillow, restricted to the formats that `probe` knows; the first frame of an animation.

    Pillow's own idea of the size is looked at before pixels are made: the header may have lied.
    """
    with Image.open(io.BytesIO(data), formats=_FORMATS) as file:
        if file.width * file.height > MAX_PIXELS:
            raise BadImageError("too_large", f"{file.width}×{file.height} pixels, at most {MAX_PIXELS}")
        file.load()
        image: Image.Image = file
        if image.mode.startswith("I"):  # 16 bits of grey
            grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        return _on_white(image) if image.has_transparency_data else np.asarray(image.convert("RGB"))


def _on_white(image: Image.Image) -> Pixels:
    """An image with transparency as a white page shows it; in strips, so that it is not held four times."""
    pixels_HW3 = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(_STRIP // image.width, 1)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        white = Image.new("RGBA", strip.size, (255, 255, 255, 255))
        pixels_HW3[top : top + rows] = np.asarray(Image.alpha_composite(white, strip).convert("RGB"))
    return pixels_HW3


def _upright(pixels_HW3: Pixels, orientation: int) -> Pixels:
    """Turn and mirror as Exif orientation 1–8 asks."""
    if orientation >= 5:
        pixels_HW3 = pixels_HW3.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels_HW3 = pixels_HW3[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_HW3 = pixels_HW3[:, ::-1]
    return pixels_HW3
