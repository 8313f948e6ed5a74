"""Mini-WebVision: the first 50 classes of WebVision, Google's images only; read as `webvision` says."""

from __future__ import annotations

from smelt.data.formats.registry import Format
from smelt.data.formats.webvision import outside, read

FORMAT = Format(
    "the first 50 classes of WebVision, Google's images only",
    order=15,
    takes="lists folders text",
    draws=False,
    validation="checked",
)

__all__ = ["FORMAT", "outside", "read"]
