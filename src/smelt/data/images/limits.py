"""What the header of an image says, and how much one image may cost.

An image is refused (`too_large`) before a decoder sees it when, by the numbers that the decoder will use,
decoding would take more than

    MAX_PIXELS   pixels of the result
    MAX_HELD     bytes of memory at once: what the decoder holds and the RGB pixels, beside the file itself
    MAX_WORK     a measure of time: passes over blocks of a JPEG, one unit being some 10 ns
    MAX_PARTS    segments, chunks or blocks that a reader walks one at a time

so that no image takes more than about 5 s of a core (and a second for every 50 MB of its file) on a machine
of 2020; `benchmarks/fuzz.py` measures it. What is held was measured too, decoder by decoder; see HELD.
"""

from __future__ import annotations

from dataclasses import dataclass

from smelt.errors import BadImageError

MAX_PIXELS = 89_478_485  # 256 MiB as RGB, the size from which Pillow warns of a bomb
MAX_HELD = 640 << 20
MAX_WORK = 200_000_000
MAX_SCANS = 100  # of a JPEG, each a pass over all pixels; encoders write some ten
MAX_PARTS = 20_000
RESULT = 3  # bytes a pixel of what is returned


@dataclass(frozen=True, slots=True)
class Header:
    """width, height: pixels as they are shown, after `orientation` (1–8, Exif) is applied.

    format: JPEG, PNG, GIF, BMP, WEBP, AVIF or HEIC. components: of a JPEG (1 grey, 3 colour, 4 CMYK), else 0.
    single_scan: a JPEG whose rows are coded from top to bottom once and in one piece (not progressive, not
    split by component, no restart markers), so that it can be decoded in part; `height_at` is where its
    height stands in the file. held: bytes of memory that decoding takes at most, the result included, the
    file not.
    """

    format: str
    width: int
    height: int
    components: int = 0
    orientation: int = 1
    single_scan: bool = False
    height_at: int = 0
    held: int = 0

    @property
    def in_part(self) -> bool:
        """Whether the rows above some place can be decoded without those below; CMYK is left to Pillow."""
        return self.single_scan and self.orientation == 1 and self.components in (1, 3)

    def within_limits(self) -> Header:
        """This header; BadImageError (`corrupt`, `too_large`) where it has no pixels or is over a limit."""
        if self.width < 1 or self.height < 1:
            raise BadImageError("corrupt", f"{self.width}×{self.height} pixels")
        if self.width * self.height > MAX_PIXELS:
            raise too_large(f"{self.width}×{self.height} pixels", f"{MAX_PIXELS}")
        if self.held > MAX_HELD:
            raise too_large(
                f"{self.width}×{self.height} pixels as {self.format} take {self.held >> 20} MiB to decode",
                f"{MAX_HELD >> 20}",
            )
        return self


def too_large(found: str, limit: str) -> BadImageError:
    """The refusal of an image over a limit: what was found, and what is the most."""
    return BadImageError("too_large", f"{found}, at most {limit}")


def too_many_parts(what: str) -> BadImageError:
    """The refusal of a file that is cut into very many pieces."""
    return BadImageError("too_large", f"more than {MAX_PARTS} {what}")
