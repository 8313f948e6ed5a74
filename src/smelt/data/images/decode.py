"""From the bytes of an image file to pixels: the one place that decoders are called from.

Whatever the bytes are, the outcome is uint8 RGB pixels (H, W, 3) or BadImageError with one of the reasons

    empty               no bytes
    not_an_image        HTML, text, noise
    unsupported_format  an image that is not read: SVG, TIFF, PSD, EPS, PDF, FITS, ICO, JPEG 2000/XL; HEIC
                        where its reader is not installed (pip install 'smelt[heic]')
    too_large           over one of `limits`: pixels, memory, passes, pieces; told from the header, nothing is
                        decoded
    truncated           ends too early
    corrupt             the decoder found damage

| file                                | outcome                                                            |
|-------------------------------------|--------------------------------------------------------------------|
| JPEG, PNG, GIF, BMP, WebP, AVIF     | read by content, whatever the name says                            |
| HEIC                                | the primary picture, cut and turned as the file says               |
| grey, palette, 1 bit                | RGB                                                                |
| CMYK, YCCK JPEG                     | RGB by Pillow's conversion, without colour profiles                |
| alpha, palette with transparency    | laid on white, as a web page shows it                              |
| 16 bit                              | the upper 8 bits                                                   |
| animated                            | the first frame                                                    |
| 1×1, 10000×1                        | read as they are                                                   |
| Exif orientation 1–8                | applied to JPEG, where cameras write it; not in other formats      |
| flipped bytes in a JPEG             | `corrupt` where the decoder notices; `examine` notices more        |
| junk between the pixels and EOI     | read: every row was decoded before it; damaged (`examine`)         |
| text, profiles, further frames      | not looked at                                                      |
| GIF with a frame beyond its screen  | as large as the frame needs, and limited by that                   |
| AVIF with a frame beyond its `ispe` | scaled to it by libavif; limited by the frame's own size           |
| another size than the header says   | `corrupt`                                                          |

Want of memory is no such reason: MemoryError goes through, for `reading.patiently` to try again.
"""

from __future__ import annotations

import importlib
import io
import math
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext

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

from smelt.data.images.damage import EXTRANEOUS, damage_of
from smelt.data.images.headers import gif_frame, png_chunks, probe
from smelt.data.images.kinds import HEIF_READERS, heif_reader
from smelt.data.images.limits import RESULT, Header
from smelt.errors import BadImageError

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]

_SMALL = 64 * 64  # pixels up to which numpy mirrors quicker than torch starts to
_ROWS_BELOW = 16  # rows decoded below a box: upsampling of colour looks at neighbours
_STRIP = 1 << 20  # pixels laid on white at a time
_LARGE = 128 << 20  # bytes held from which images are decoded one at a time
_PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
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
            return crop_resize(_guarded(_decode_jpeg, data, header, rows)[0], box, size, flip)
    return crop_resize(_decode(data, header)[0], box, size, flip)


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
    """All pixels of an image file, uint8 (height, width, 3) as `probe` says; raises BadImageError only.

    Memory: the file, at most `limits.MAX_HELD` bytes (the result among them) and some 16 MiB; time: some
    seconds of a core for the worst that `probe` lets through. Of images that hold more than _LARGE bytes a
    process decodes one at a time, however many threads ask.
    """
    return _decode(data, header or probe(data))[0]


def examine(data: bytes) -> tuple[Pixels, str]:
    """What `decode` gives, and a word for the damage that did not keep it from being read; "" for none.

    The words are those of `smelt.data.images.damage`. Costs more than `decode`: see there.
    """
    header = probe(data)
    pixels_HW3, complaint = _decode(data, header)
    return pixels_HW3, complaint or damage_of(data, header, pixels_HW3)


def _decode(data: bytes, header: Header) -> tuple[Pixels, str]:
    """Pixels, and the word for what the decoder put up with."""
    with _turns.taken if header.held > _LARGE else nullcontext():
        if header.format == "JPEG" and header.components in (1, 3):
            height = header.height if header.orientation < 5 else header.width
            stored_HW3, complaint = _guarded(_decode_jpeg, data, header, height)
        else:
            stored_HW3, complaint = _guarded(_decode_any, data, header)
    pixels_HW3 = _upright(stored_HW3, header.orientation)
    if pixels_HW3.shape != (header.height, header.width, RESULT):
        height, width = pixels_HW3.shape[:2]
        raise BadImageError(
            "corrupt", f"decodes to {width}×{height} pixels, its header says {header.width}×{header.height}"
        )
    return pixels_HW3, complaint


class _Turns:
    """A lock that a child process does not inherit taken."""

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.taken = threading.Lock()


_turns = _Turns()


def _guarded(
    decoder: Callable[..., tuple[Pixels, str]], data: bytes, header: Header, *rest: object
) -> tuple[Pixels, str]:
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


def _decode_jpeg(data: bytes, header: Header, rows: int) -> tuple[Pixels, str]:
    """The first `rows` rows of a JPEG, as stored; `leftover` where bytes stand between the last and the end.

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
        if not str(error).endswith(EXTRANEOUS):
            raise
        return pixels_HW3, "leftover"
    if filled.shape != pixels_HW3.shape:
        raise BadImageError("corrupt", f"decodes to {filled.shape}, its header says {pixels_HW3.shape}")
    return pixels_HW3, ""


def _decode_any(data: bytes, header: Header) -> tuple[Pixels, str]:
    """By Pillow, restricted to the format that `probe` found; the first frame of an animation.

    Pillow's own idea of the size is looked at before pixels are made: the header may have lied.
    """
    if header.format == "HEIC":
        return _rgb(_heic(data, header)), ""
    with Image.open(io.BytesIO(_bare(data, header)), formats=(header.format,)) as file:
        _same_size(file.size, header)
        file.load()
        if hasattr(file, "_decoder"):
            file._decoder = None  # a WebP's or an AVIF's: it holds the pixels two or three times more
        return _rgb(file), ""


def _heic(data: bytes, header: Header) -> Image.Image:
    """The primary picture of a HEIC, turned and cut as the file says."""
    reader = importlib.import_module(heif_reader() or HEIF_READERS[0])
    picture = reader.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    picture = picture[picture.primary_index]
    _same_size(picture.size, header)
    image: Image.Image = picture.to_pillow()
    return image


def _same_size(size: tuple[int, int], header: Header) -> None:
    sides = (header.width, header.height) if header.orientation < 5 else (header.height, header.width)
    if size != sides:
        raise BadImageError("corrupt", f"decodes to {size} pixels, its header says {sides}")


def _bare(data: bytes, header: Header) -> bytes:
    """A file without what Pillow would read beside pixels: text, profiles, other frames, one part at a time.

    These can be compressed bombs, or so many that joining them takes hours.
    """
    if header.format == "PNG":
        chunks = list(png_chunks(data))
        if all(name in _PNG_PIXELS for name, _, _ in chunks):
            return data
        kept = [data[start:end] for name, start, end in chunks if name in _PNG_PIXELS]
        return data[:8] + b"".join(kept)
    if header.format == "GIF":
        control, frame = gif_frame(data)
        palette = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
        return data if frame == palette else data[:palette] + control + data[frame:]
    return data


def _rgb(image: Image.Image) -> Pixels:
    """The pixels of a loaded image; what is transparent, as a white page shows it.

    In strips, so that an image is not held four times.
    """
    pixels_HW3 = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(_STRIP // image.width, 1)
    sixteen, transparent = image.mode.startswith("I"), image.has_transparency_data
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        if sixteen:  # 16 bits of grey
            grey_HW = np.asarray(strip).astype(np.int64) >> 8
            pixels_HW3[top : top + rows] = grey_HW.clip(0, 255)[:, :, None]
            continue
        if transparent:
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, (255, 255, 255, 255)), strip)
        pixels_HW3[top : top + rows] = np.asarray(strip.convert("RGB"))
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
