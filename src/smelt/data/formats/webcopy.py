"""Where the lists and images of WebVision are in a copy of it: they differ, so the known places are tried."""

from __future__ import annotations

import re

from smelt.artifacts.bytestrings import decode, encode
from smelt.artifacts.catalogue_writer import Paths
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.tree.files import Files, Part
from smelt.errors import DataError

SOURCES = ("google", "flickr")
_BASES = ("", "train_images_256", "train_images_resized", "train_images", "train", "images")
LISTS = {
    "google": ("train_filelist_google.txt", "train_filelist_google_all.txt"),
    "flickr": ("train_filelist_flickr.txt", "train_filelist_flickr_all.txt"),
    "val": ("val_filelist.txt",),
    "test": ("test_filelist.txt",),
    "test_labels": ("test_labels.txt",),
    "google_meta": ("train_meta_list_google.txt", "train_meta_list_google_all.txt"),
    "flickr_meta": ("train_meta_list_flickr.txt", "train_meta_list_flickr_all.txt"),
    "synsets": ("synsets.txt",),
    "google_queries": ("queries_google.txt", "queries.txt"),
    "flickr_queries": ("queries_flickr.txt", "queries.txt"),
    "truth": ("truth.csv",),
}


class Copy:
    """Where things are below the root of `files`, by the settings or by the names that are known."""

    def __init__(self, settings: FormatSettings, files: Files) -> None:
        self.settings, self.files = settings, files
        self._folders: dict[bytes, bytes] = {}

    def list_file(self, name: str) -> Part | None:
        """The list called `name`, from the settings, `info/`, an `info.tar` or the root."""
        if name in self.settings.lists:
            path = self.files.root / self.settings.lists[name]
            if not path.is_file():
                raise DataError(f"lists.{name}: {path} is not there")
            return Part(path)
        names = LISTS[name]
        return self.files.find_any([base + file for file in names for base in ("info/", "")])

    def need(self, name: str) -> Part:
        """Like `list_file`, but it must be there."""
        part = self.list_file(name)
        if part is None:
            raise DataError(
                f"{self.files.root} has no info/{LISTS[name][0]} (nor one in info.tar): is `root` the "
                f"folder of WebVision? Set `lists: {{{name}: path}}` if it is elsewhere"
            )
        return part

    def sources(self, settings: FormatSettings) -> list[str]:
        """Sources to index: those asked for, else those that have a list."""
        if settings.format == "mini_webvision":
            return ["google"]
        wanted = settings.sources or [name for name in SOURCES if self.list_file(name) is not None]
        if not wanted:
            self.need("google")
        return list(wanted)

    def place(self, paths: Paths, source: str) -> Paths:
        """Listed paths of training images as paths below the root."""
        return Paths(
            [self._place(folder, source) for folder in paths.folders], paths.folder_codes, paths.names
        )

    def _place(self, folder: bytes, source: str) -> bytes:
        head, slash, rest = folder.partition(b"/")
        if not decode(head).startswith(source):
            head, slash, rest = b"", b"/" if folder else b"", folder
        if head not in self._folders:
            self._folders[head] = self._top(decode(head), source, rest)
        return self._folders[head] + slash + rest if self._folders[head] else rest

    def _top(self, head: str, source: str, rest: bytes) -> bytes:
        """The folder that stands for the first part of a listed path, or for none."""
        if source in self.settings.folders:
            return encode(self.settings.folders[source].strip("/"))
        heads = [head] if head else []
        heads += [f"{source}{end}" for end in ("", "_images_resized", "_resized_256", "_images_256")]
        tops = [f"{base}/{name}".strip("/") for name in heads for base in _BASES] + ([] if head else [""])
        query = rest.partition(b"/")[0]
        full = [top for top in tops if self.files.has_folder(encode(top + "/").lstrip(b"/") + query)]
        long = re.fullmatch(rb"q\d{5}", query) and not head.startswith(f"{source}_")
        return encode(full[0] if full else f"{source}_images_resized" if long else tops[0])

    def below(self, split: str) -> bytes:
        """The folder of validation or test images."""
        if split in self.settings.folders:
            return encode(self.settings.folders[split].strip("/"))
        names = [f"{split}_images_resized", f"{split}_images_256", f"{split}_images", split]
        return encode(next((name for name in names if self.files.has_folder(encode(name))), names[0]))
