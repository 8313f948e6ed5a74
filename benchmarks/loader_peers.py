"""The loaders that benchmarks/loader.py compares.

All do one piece of work: JPEG files of a folder → batches of 64 images of 224 × 224 with the channels
innermost in memory, as uint8 or as float32 normalised by ImageNet's mean and deviation; a random resized crop
(area 0.08 to 1 of the image, ratio 3/4 to 4/3, antialiased), mirrored with probability 1/2; where asked for,
RandAugment after it: two of its 14 operations (identity, shears, translations, rotation, brightness, colour,
contrast, sharpness, posterise, solarise, autocontrast, equalise) at magnitude 9 of 30, nearest neighbour.
The files lie in the page cache. Each batch's type, shape and layout is checked before anything is timed.

    smelt                make_loader as training calls it (threads, decoding in part), its memory for decoded
                         pixels filled by other images, as in an epoch of a set that is larger than it;
                         float32 by training's Normaliser
    smelt, pixels kept   the same with every image's pixels in that memory: the later epochs of a small set.
                         Nothing is read or decoded, so it is no like for like
    torchvision          v1 transforms on Pillow in a DataLoader; float32: ToTensor and Normalize
    simplejpeg + v2      what one would write oneself: simplejpeg's whole decode, torchvision's v2 transforms
                         on uint8 tensors; float32: ToDtype and Normalize
    timm                 its training transform on Pillow; RandAugment of its own operations at the strengths
                         of torchvision's magnitude 9 (posterise: 5 bits for 7), always applied
    webdataset           a tar of the same files, decoded by Pillow, v2 transforms on Pillow
    albumentations       OpenCV, scaled by INTER_AREA, which is a box filter; has no RandAugment
    dali                 on the CPU: decoder of a random region, antialiased linear scaling, its RandAugment
    ffcv                 a .beton of the same JPEG bytes, whole decode, INTER_AREA; has no RandAugment

A peer may be missing; what installs all of them beside smelt (Debian, Python 3.11; FFCV is built from source
against Debian's OpenCV and libjpeg-turbo):

    apt-get install --no-install-recommends g++ pkg-config libopencv-dev libturbojpeg0-dev
    pip install webdataset==1.0.2 albumentations==2.0.8 nvidia-dali-cuda120==2.4.0 ffcv==1.0.2

To add a peer: a function Work → Epoch here, a line in PEERS.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from loader_process import BATCH, SIZE, Epoch, NotOffered, Work
from smelt.artifacts.catalogue import Location
from smelt.data.config import AugmentSettings, RandAugmentSettings
from smelt.learning.pixels import MEAN, STD, Normaliser
from smelt.learning.setup import CACHE_MIB, make_loader


class Folder:
    """As much of a catalogue as a loader needs; from row `count` on the files come again under other rows."""

    num_rows = 1 << 16

    def __init__(self, root: Path) -> None:
        self.names = sorted(path.name for path in root.glob("*.jpg"))
        self.count = len(self.names)

    def location(self, row: int) -> Location:
        return Location(None, 0, 0, self.path(row))

    def path(self, row: int) -> str:
        return self.names[row % self.count]


def smelt(work: Work) -> Epoch:
    catalogue: Any = Folder(work.folder)
    loader = make_loader(catalogue, work.folder, workers=work.workers)
    _fill(loader, catalogue.count)
    return _smelt(work, loader, catalogue.count)


def smelt_kept(work: Work) -> Epoch:
    catalogue: Any = Folder(work.folder)
    loader = make_loader(catalogue, work.folder, workers=work.workers)
    sizes = [loader.pixels(row).nbytes for row in range(catalogue.count)]
    fit = int(np.searchsorted(np.cumsum(sizes), CACHE_MIB << 20, side="right"))
    return _smelt(work, loader, fit // BATCH * BATCH)


def _smelt(work: Work, loader: Any, count: int) -> Epoch:
    batches = list(np.arange(count).reshape(-1, BATCH))
    randaugment = RandAugmentSettings(num_ops=2, magnitude=9) if work.randaugment else None
    augment = AugmentSettings(sizes=(SIZE,), randaugment=randaugment)
    normalise = Normaliser(torch.device("cpu"), channels_last=True)
    numbers = itertools.count()

    def epoch() -> Iterator[Tensor]:
        for batch in loader.training(batches, augment, next(numbers)):
            yield normalise(batch.images) if work.float32 else batch.images

    return epoch


def _fill(loader: Any, count: int) -> None:
    """Fill the memory for pixels with rows from `count` on, then offer each size once more: none fits."""
    held, row = 0, count
    while held <= CACHE_MIB << 20:
        held += loader.pixels(row).nbytes
        row += 1
    for again in range(row, row + count):
        loader.pixels(again)


class Files(Dataset[Tensor]):
    """A folder of JPEGs for PyTorch's DataLoader: read, then transform."""

    def __init__(self, folder: Path, transform: Callable[[Path], Tensor]) -> None:
        self.paths, self.transform = sorted(folder.glob("*.jpg")), transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(self.paths[index])


def innermost(images: list[Tensor]) -> Tensor:
    """A batch with channels innermost. No slower than the default one, which transposes uint8 images."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def processes(workers: int) -> dict[str, Any]:
    """One process (workers 1) or as many child processes as workers, which stay from pass to pass."""
    return {"num_workers": workers, "persistent_workers": True} if workers > 1 else {"num_workers": 0}


def data_loader(work: Work, transform: Callable[[Path], Tensor]) -> Epoch:
    files = Files(work.folder, transform)
    loader = DataLoader(files, BATCH, collate_fn=innermost, **processes(work.workers))
    return lambda: loader


def torchvision(work: Work) -> Epoch:
    from torchvision import transforms as t

    steps = [t.RandomResizedCrop(SIZE), t.RandomHorizontalFlip()]
    steps += [t.RandAugment(2, 9)] if work.randaugment else []
    steps += [t.ToTensor(), t.Normalize(MEAN, STD)] if work.float32 else [t.PILToTensor()]
    transform = t.Compose(steps)
    return data_loader(work, lambda path: transform(Image.open(path).convert("RGB")))


def _v2(work: Work, from_pillow: bool) -> Callable[[Any], Tensor]:
    """torchvision's v2 transforms, on Pillow images or on uint8 tensors."""
    from torchvision.transforms import v2

    steps: list[Any] = [v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip()]
    steps += [v2.RandAugment(2, 9)] if work.randaugment else []
    steps += [v2.PILToTensor()] if from_pillow else []
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)] if work.float32 else []
    transform: Callable[[Any], Tensor] = v2.Compose(steps)
    return transform


def simplejpeg_v2(work: Work) -> Epoch:
    import simplejpeg

    transform = _v2(work, from_pillow=False)

    def load(path: Path) -> Tensor:
        pixels = simplejpeg.decode_jpeg(path.read_bytes(), "RGB")
        return transform(torch.from_numpy(pixels).permute(2, 0, 1))

    return data_loader(work, load)


def timm(work: Work) -> Epoch:
    from timm.data import create_transform

    transform = create_transform(
        SIZE, is_training=True, use_prefetcher=not work.float32, color_jitter=None, auto_augment=None,
        interpolation="bilinear", mean=MEAN, std=STD,
    )  # fmt: skip
    if work.randaugment:
        transform.transforms.insert(2, _timm_randaugment())
    return data_loader(work, lambda path: torch.as_tensor(transform(Image.open(path).convert("RGB"))))


def _timm_randaugment() -> Callable[[Image.Image], Image.Image]:
    """Level 3 of timm's 10 is magnitude 9 of 30; timm has no identity of its own."""
    from timm.data.auto_augment import RandAugment, rand_augment_ops

    names = (
        "ShearX", "ShearY", "TranslateXRel", "TranslateYRel", "Rotate", "BrightnessIncreasing",
        "ColorIncreasing", "ContrastIncreasing", "SharpnessIncreasing", "PosterizeOriginal",
        "SolarizeIncreasing", "AutoContrast", "Equalize",
    )  # fmt: skip
    settings = {"interpolation": Image.Resampling.NEAREST, "img_mean": (0, 0, 0)}
    operations = rand_augment_ops(magnitude=3, prob=1.0, hparams=settings, transforms=list(names))
    chosen: Callable[[Image.Image], Image.Image] = RandAugment(
        [*operations, lambda image: image], num_layers=2
    )
    return chosen


def webdataset(work: Work) -> Epoch:
    import webdataset as wds

    shard = str(work.folder.with_suffix(".tar"))
    data = wds.WebDataset([shard] * work.workers, shardshuffle=False, empty_check=False)
    data = data.decode("pil").to_tuple("jpg").map_tuple(_v2(work, from_pillow=True))
    data = data.batched(BATCH, collation_fn=lambda samples: innermost([sample[0] for sample in samples]))
    loader = DataLoader(data, batch_size=None, **processes(work.workers))
    return lambda: loader


def albumentations(work: Work) -> Epoch:
    import albumentations as a
    import cv2

    if work.randaugment:
        raise NotOffered("has no RandAugment")
    cv2.setNumThreads(0)
    steps: list[Any] = [
        a.RandomResizedCrop((SIZE, SIZE), interpolation=cv2.INTER_AREA),
        a.HorizontalFlip(),
    ]
    steps += [a.Normalize(MEAN, STD)] if work.float32 else []
    transform = a.Compose(steps)

    def load(path: Path) -> Tensor:
        pixels = transform(image=cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))["image"]
        return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)

    return data_loader(work, load)


def dali(work: Work) -> Epoch:
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.auto_aug import rand_augment

    files = [str(path) for path in sorted(work.folder.glob("*.jpg"))]

    @pipeline_def(enable_conditionals=True, batch_size=BATCH, device_id=None, num_threads=work.workers)
    def pipeline() -> Any:
        data, _ = fn.readers.file(files=files, name="files")
        images = fn.decoders.image_random_crop(
            data, device="cpu", random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3]
        )
        images = fn.resize(images, size=[SIZE, SIZE], interp_type=types.INTERP_LINEAR, antialias=True)
        images = fn.flip(images, horizontal=fn.random.coin_flip())
        if work.randaugment:
            nearest = types.INTERP_NN
            images = rand_augment.rand_augment(images, n=2, m=9, fill_value=0, interp_type=nearest)
        if work.float32:
            mean, std = ([255 * value for value in values] for values in (MEAN, STD))
            images = fn.crop_mirror_normalize(
                images, dtype=types.FLOAT, output_layout="HWC", mean=mean, std=std
            )
        return images

    built = pipeline()
    built.build()

    def epoch() -> Iterator[Tensor]:
        for _ in range(len(files) // BATCH):
            yield torch.from_dlpack(built.run()[0].as_tensor()).permute(0, 3, 1, 2)

    return epoch


def ffcv(work: Work) -> Epoch:
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder, RGBImageField
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, ToTensor
    from ffcv.writer import DatasetWriter

    from smelt.data.images.headers import probe

    if work.randaugment:
        raise NotOffered("has no RandAugment")

    class Stored(RGBImageField):  # type: ignore[misc]
        """The bytes of a JPEG as they are; FFCV's own field would encode the pixels anew."""

        def encode(self, destination: Any, image: bytes, malloc: Any) -> None:
            header = probe(image)
            destination["mode"], destination["height"], destination["width"] = 0, header.height, header.width
            destination["data_ptr"], storage = malloc(len(image))
            storage[:] = np.frombuffer(image, np.uint8)

        @staticmethod
        def from_binary(binary: Any) -> Stored:
            return Stored()

    class Samples:
        paths = sorted(work.folder.glob("*.jpg"))

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, index: int) -> tuple[bytes]:
            return (self.paths[index].read_bytes(),)

    beton = work.folder.with_suffix(".beton")
    if not beton.exists():
        begun = beton.with_suffix(".begun")
        DatasetWriter(str(begun), {"image": Stored()}, num_workers=1).from_indexed_dataset(Samples())
        begun.rename(beton)
    steps: list[Any] = [RandomResizedCropRGBImageDecoder((SIZE, SIZE)), RandomHorizontalFlip()]
    if work.float32:
        steps.append(NormalizeImage(255 * np.array(MEAN), 255 * np.array(STD), np.float32))
    reader = Loader(
        str(beton), BATCH, num_workers=work.workers, order=OrderOption.SEQUENTIAL, os_cache=True,
        custom_fields={"image": Stored}, pipelines={"image": [*steps, ToTensor()]},
    )  # fmt: skip
    return lambda: (batch[0].permute(0, 3, 1, 2) for batch in reader)


# name → the package that must be there, and the loader as module:function
PEERS: dict[str, tuple[str, str]] = {
    "smelt": ("smelt", "loader_peers:smelt"),
    "torchvision": ("torchvision", "loader_peers:torchvision"),
    "simplejpeg + v2": ("simplejpeg", "loader_peers:simplejpeg_v2"),
    "smelt, pixels kept": ("smelt", "loader_peers:smelt_kept"),
    "timm": ("timm", "loader_peers:timm"),
    "webdataset": ("webdataset", "loader_peers:webdataset"),
    "albumentations": ("albumentations", "loader_peers:albumentations"),
    "dali": ("nvidia.dali", "loader_peers:dali"),
    "ffcv": ("ffcv", "loader_peers:ffcv"),
}
