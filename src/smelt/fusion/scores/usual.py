"""Names that columns and arrays usually have, by what is in them, and how names are shown and compared."""

from __future__ import annotations

import re
from collections.abc import Sequence

ID_NAMES = {
    "id", "ids", "image", "images", "image_id", "image_ids", "imageid", "img", "img_id", "img_ids",
    "file", "files", "filename", "filenames", "file_name", "file_names", "fname", "fnames", "path", "paths",
    "image_path", "image_paths", "image_name", "image_names", "img_name", "img_path", "name", "names", "key",
    "keys", "uid", "uuid", "sample", "sample_id", "sample_ids", "row_id",
}  # fmt: skip
LABEL_NAMES = {
    "label", "labels", "y", "y_true", "target", "targets", "gt", "ground_truth", "groundtruth", "true_label",
    "true_labels", "truth", "class", "class_id", "class_name", "category", "category_id", "label_id",
    "label_name",
}  # fmt: skip
INDEX_NAMES = {"", "unnamed:_0", "index", "__index_level_0__"}
LEFT_NAMES = {  # what stands beside scores and is none
    "pred", "preds", "prediction", "predicted", "pred_label", "predicted_label", "pred_class",
    "predicted_class", "confidence", "argmax", "split", "fold", "unnamed:_0", "__index_level_0__",
}  # fmt: skip
SPLITS = {
    "train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation",
    "holdout", "heldout", "public", "private",
}  # fmt: skip
FEW = 3  # names that a message shows


def few(names: Sequence[str]) -> str:
    """The first names and how many more there are."""
    more = f" and {len(names) - FEW:,} more" if len(names) > FEW else ""
    shown = (name if len(name) <= 120 else f"{name[:40]}…{name[-79:]}" for name in names[:FEW])
    return ", ".join(shown) + more


def plain(name: str) -> str:
    """A column's or key's name, as it is compared with those above."""
    return re.sub(r"[\s\-]+", "_", name.strip().lstrip("#").strip().lower())


def stripped(name: str) -> str:
    """A name without words for a split: `A-test` and `A_val` are `A`, `r50/test` is `r50`."""
    base, tail = re.fullmatch(r"(.*?)(\[\d+\]|:[^/]*)?", name, re.S).groups("")  # type: ignore[union-attr]
    parts = re.split(r"([-_. /]+)", base)
    words, signs = parts[::2], ["", *parts[1::2]]
    kept = [(sign, word) for sign, word in zip(signs, words) if word and word.lower() not in SPLITS]
    return "".join(sign * bool(place) + word for place, (sign, word) in enumerate(kept)) + tail


def key(name: str) -> str:
    """An array's name as it is compared, without words for a split: `y_test` is `y`."""
    return plain(stripped(name)) or plain(name)
