"""The loop that a user of PyTorch's tutorials would write, in two forms, and the options that all peers take.

`tutorial`: a Dataset over image files that are decoded and transformed one by one in every epoch, a DataLoader without
workers, fp32 in the stock layout; as in https://docs.pytorch.org/tutorials/beginner/basics/data_tutorial.html and
https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html.
`expert`: the same with what https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html advises and a few
lines bring: channels-last, bf16 autocast where the processor has AVX512 (elsewhere it is emulated, at a seventh of the
speed), a persistent loader worker.
The models are torchvision's as they are: of RGB images, and squeezenet1_1 with a ReLU over its logits, often the end of
its training, which ours does without (trainable/architectures.py).

Every peer appends a line to `epochs.jsonl` in its folder when an epoch ends: what the benchmarks read.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

FORMS = ("tutorial", "expert")
ARCHITECTURES = ("squeezenet1_1", "mobilenet_v3_small", "resnet18")
OPTIMIZERS = ("adam", "adamw", "sgd")
BATCH_SIZES = (16, 32, 64)
AUGMENTATIONS = (0.0, 0.4)
LEARNING_RATES = (1e-4, 1e-2)
WEIGHT_DECAYS = (1e-6, 1e-2)
REDUCTION_FACTOR = 3

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Configuration = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all trials of one search share. `images` is a CSV of path, label (0 or 1) and split (train or val)."""

    images: Path
    image_size: int
    max_epochs: int
    form: str
    folder: Path

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Self:
        return cls(**{name: getattr(args, name) for name in cls.__dataclass_fields__})

    @property
    def is_expert(self) -> bool:
        return self.form == "expert"


class SliceFiles(Dataset[tuple[Tensor, int]]):
    """The slices of one split, read from their files each time they are asked for."""

    def __init__(self, images: Path, split: str, transform: Callable[[Image.Image], Tensor]) -> None:
        with images.open(newline="") as file:
            self.slices = [(row["path"], int(row["label"])) for row in csv.DictReader(file) if row["split"] == split]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.slices[index]
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")), label


def build_loader(task: Task, split: str, batch_size: int, strength: float = 0.0) -> DataLoader[tuple[Tensor, int]]:
    """Batches of a split, augmented as trainable/augment.py does at this strength."""
    moves: list[Any] = []
    if strength > 0:
        zoom, shift = (1 - 0.15 * strength, 1 + 0.15 * strength), (0.1 * strength, 0.1 * strength)
        moves = [transforms.RandomAffine(20 * strength, translate=shift, scale=zoom, shear=10 * strength)]
        moves += [transforms.RandomHorizontalFlip(min(0.5, strength))]
    normalise = [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    resize = transforms.Resize((task.image_size, task.image_size))
    dataset = SliceFiles(task.images, split, transforms.Compose([resize, *moves, *normalise]))
    workers: dict[str, Any] = {"num_workers": 1, "persistent_workers": True} if task.is_expert else {}
    return DataLoader(dataset, batch_size=batch_size, shuffle=split == "train", **workers)


def build_optimizer(model: nn.Module, configuration: Configuration) -> torch.optim.Optimizer:
    options = {"lr": configuration["learning_rate"], "weight_decay": configuration["weight_decay"]}
    if configuration["optimizer"] == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=0.9, **options)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[configuration["optimizer"]](model.parameters(), **options)


def train(configuration: Configuration, task: Task) -> Iterator[tuple[dict[str, float], dict[str, Any]]]:
    """Yield the metrics and the state of model and optimiser after every epoch, up to `task.max_epochs`."""
    torch.set_num_threads(1)
    has_bf16 = task.is_expert and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    layout = torch.channels_last if task.is_expert else torch.contiguous_format
    train_loader = build_loader(task, "train", configuration["batch_size"], configuration["augmentation"])
    val_loader = build_loader(task, "val", configuration["batch_size"])
    model = models.get_model(configuration["architecture"], weights=None, num_classes=2).to(memory_format=layout)
    optimizer = build_optimizer(model, configuration)
    criterion = nn.CrossEntropyLoss()

    def predict(images: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bf16):
            logits: Tensor = model(images.to(memory_format=layout))
        return logits.float()

    for epoch in range(1, task.max_epochs + 1):
        began_s = time.perf_counter()
        model.train()
        num_images = 0
        for images, labels in train_loader:
            loss = criterion(predict(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            num_images += len(labels)
        images_per_s = num_images / (time.perf_counter() - began_s)

        model.eval()
        with torch.no_grad():
            seen = [(predict(images).softmax(dim=1)[:, 1], labels) for images, labels in val_loader]
        scores, targets = (torch.cat(column).numpy() for column in zip(*seen, strict=True))
        metrics = {"epoch": epoch, "val_auc": float(roc_auc_score(targets, scores)), "images_per_s": images_per_s}
        line = json.dumps({"at_s": time.time(), "configuration": configuration, **metrics})
        with (task.folder / "epochs.jsonl").open("a") as file:
            file.write(line + "\n")
        yield metrics, {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def read_arguments(description: str | None) -> argparse.Namespace:
    """A peer's options; `configurations` becomes their list, empty where its own searcher is to choose."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="CSV of path, label and split")
    parser.add_argument("--folder", type=Path, required=True, help="where it may write")
    parser.add_argument("--form", choices=FORMS, default="tutorial")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--max-epochs", type=int, default=9)
    parser.add_argument("--num-trials", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--configurations", type=Path, help="JSON list: the first trials, in this order")
    parser.add_argument("--seed", type=int, default=0, help="of the searcher")
    args = parser.parse_args()
    if args.num_trials is None and args.minutes is None:
        parser.error("give --num-trials or --minutes")
    args.images, args.folder = args.images.absolute(), args.folder.absolute()
    args.folder.mkdir(parents=True, exist_ok=True)
    args.configurations = json.loads(args.configurations.read_text()) if args.configurations else []
    return args
