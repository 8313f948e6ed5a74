"""WebDataset as people have it: labels in every place, odd names, packed and damaged shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from formats_toy import PIXEL, catalogue_of, read_back, refused, rows_of, tar


def test_sources_in_tars_have_room(tmp_path: Path) -> None:
    members = {}
    for i in range(257):
        meta = {"label": i % 2, "source": f"site{i}.org"}
        members |= {f"{i}.jpg": b"x", f"{i}.json": json.dumps(meta).encode()}
    tar(tmp_path / "a/train.tar", members)
    c = catalogue_of(tmp_path / "a", tmp_path / "o", format="webdataset")
    assert len(c.sources) == 257
    names = {c.path(row): c.sources[c.source_codes_N[row]] for row in range(257)}
    assert all(names[f"train.tar/{i}.jpg"] == f"site{i}.org" for i in range(257))


def test_webdataset(tmp_path: Path) -> None:
    def sample(key: str, label: str | None, meta: dict[str, Any] | None = None) -> dict[str, bytes]:
        found = {f"{key}.jpg": PIXEL + key.encode()}
        found |= {f"{key}.cls": label.encode()} if label is not None else {}
        return found | ({f"{key}.json": json.dumps(meta).encode()} if meta else {})

    root = tmp_path / "data"
    tar(
        root / "wds-train-000000.tar",
        sample("000", "1") | sample("001", "0\n", {"title": "t", "tags": ["x", "y"]}),
    )
    tar(root / "wds-train-000001.tar", sample("000", None, {"label": 2, "query": "q", "source": "flickr"}))
    tar(root / "val/0.tar", sample("a/b", "2"))
    c = catalogue_of(root, tmp_path / "out", format="webdataset")
    assert c.num_classes == 3
    train = {c.path(row): row for row in c.rows("train").tolist()}
    assert {path: int(c.labels_N[row]) for path, row in train.items()} == {
        "wds-train-000000.tar/000.jpg": 1, "wds-train-000000.tar/001.jpg": 0,
        "wds-train-000001.tar/000.jpg": 2,
    }  # fmt: skip
    row = train["wds-train-000000.tar/001.jpg"]
    assert c.strings("title", [row]) == ["t"] and c.strings("tags", [row]) == ["x y"]
    row = train["wds-train-000001.tar/000.jpg"]
    assert c.strings("query", [row]) == ["q"] and c.sources[c.source_codes_N[row]] == "flickr"
    assert read_back(c, root, row) == PIXEL + b"000"
    assert rows_of(c, "val") == [("val/0.tar/a/b.jpg", 2)]
    tar(root / "train-2.tar", {"no.jpg": b"x"})
    assert "neither a .cls nor a label" in refused(root, tmp_path / "bad", format="webdataset")
    names = catalogue_of(
        tmp_path,
        tmp_path / "o2",
        format="webdataset",
        lists={"train": "data/val/*.tar", "val": "data/wds*1.tar"},
    )
    assert len(names.rows("train")) == 1 and len(names.rows("val")) == 1
