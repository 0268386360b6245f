"""Named configurations with their source: what five published projects on chest CT did, reproducible here by name.

Where a project does not say what it did, the recipe's `notes` say what is done here. "Layer" is Keras' word in these
projects and counts activations, padding and additions; the notes name the torch modules that are meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainable.config import TrialConfig
from trainable.suggest import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """`params` is a configuration (`TrialConfig.from_params`). `reported` are the project's own figures, `reported_on`
    the test they are of; `patience` in epochs, 0 for none. `wants_weights`: the project began with pretrained weights;
    without any the recipe trains from scratch."""

    name: str
    summary: str
    params: Mapping[str, Any]
    max_epochs: int
    image_size: int = 224
    patience: int = 0
    wants_weights: bool = False
    reported: Mapping[str, float] = field(default_factory=dict)
    reported_on: str = ""
    notes: tuple[str, ...] = ()

    @property
    def config(self) -> TrialConfig:
        return TrialConfig.from_params(self.params)


FROZEN_RESNET50: Mapping[str, Any] = {
    "architecture": "resnet50",
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "lr_schedule": "constant",
    "batch_size": 32,
    "augmentation": 0.5,
    "unfreezing": "frozen",
    "head_depth": 1,
    "head_width": 256,
}
TWO_CLASSES = "binary cross-entropy over one sigmoid is the same loss as cross-entropy over two classes, used here"
AUGMENTED = "rotation, shift, shear, zoom and flip are one strength here (trainable/augment.py): 0.5"
NO_OPTIMISER = "the project names no optimiser or learning rate: Adam at 1e-4 here"

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="resnet152-pretrained",
            summary="ResNet-152, fine-tuned from a weights file, batch 18, 50 epochs",
            params={
                "architecture": "resnet152",
                "optimizer": "adam",
                "learning_rate": 1e-4,
                "weight_decay": 0.0,
                "lr_schedule": "constant",
                "batch_size": 18,
                "augmentation": 0.0,
            },
            max_epochs=50,
            wants_weights=True,
            reported={
                "accuracy": (226 + 223) / 497,
                "sensitivity": 226 / (226 + 42),
                "specificity": 223 / (223 + 6),
                "precision": 226 / (226 + 6),
                "f1": 2 * 226 / (2 * 226 + 42 + 6),
            },
            reported_on="497 SARS-CoV-2 CT slices: TP 226, FN 42, TN 223, FP 6",
            notes=(
                "the project speaks of chest X-ray weights, which exist for DenseNet-121 only: give any file for "
                "resnet152, such as torchvision's ImageNet weights",
                NO_OPTIMISER,
            ),
        ),
        Recipe(
            name="resnet50-frozen",
            summary="ResNet-50 with the backbone frozen, average pooling and a dense head, Adam, early stopping",
            params=FROZEN_RESNET50,
            max_epochs=50,
            patience=10,
            wants_weights=True,
            notes=(
                TWO_CLASSES,
                AUGMENTED,
                "the dense head is one hidden layer of 256; epochs and patience are not given: 50 and 10 here",
            ),
        ),
        Recipe(
            name="resnet50-finetune",
            summary="resnet50-frozen, then its last 20 layers unfrozen, then its last 40, 80 epochs",
            params={
                **FROZEN_RESNET50,
                "learning_rate": 1e-4,
                "unfreezing": "staged",
                "unfrozen_layers": 12,
                "unfreeze_at": 0.25,
                "unfreeze_more_at": 0.75,
            },
            max_epochs=80,
            wants_weights=True,
            reported={"accuracy": 0.7786},
            notes=(
                TWO_CLASSES,
                AUGMENTED,
                "the last 20 layers of Keras are the 12 convolutions and batch norms of torch's layer4[1] and "
                "layer4[2], the last 40 these, layer4[0] and conv2, bn2, conv3 and bn3 of layer3[5]: 24 modules",
                "the head trains alone to epoch 20, the last 20 layers to epoch 60, the last 40 to epoch 80; "
                "Adam at 1e-4",
            ),
        ),
        Recipe(
            name="resnet50-split-702010",
            summary="ResNet-50 with extra fully connected layers; augmented; split 70/20/10",
            params={
                **FROZEN_RESNET50,
                "learning_rate": 1e-4,
                "unfreezing": "all",
                "head_depth": 2,
            },
            max_epochs=50,
            wants_weights=True,
            notes=(
                AUGMENTED + "; the project does not flip",
                "a set without a split column is split 70/20/10 here by patient; a given split is kept",
                "the extra layers are two of 256; optimiser and epochs are not given: Adam at 1e-4 and 50 here",
            ),
        ),
        Recipe(
            name="vgg16-covidct",
            summary="VGG-16 on COVID-CT, class-weighted, 20 epochs",
            params={
                "architecture": "vgg16",
                "optimizer": "adam",
                "learning_rate": 1e-4,
                "weight_decay": 0.0,
                "lr_schedule": "constant",
                "batch_size": 32,
                "augmentation": 0.0,
                "dropout": 0.5,
                "class_weighting": True,
            },
            max_epochs=20,
            wants_weights=True,
            reported={"accuracy": 0.783, "sensitivity": 0.745, "specificity": 0.819, "auc": 0.862},
            reported_on="COVID-CT, published split (203 slices)",
            notes=(NO_OPTIMISER,),
        ),
        Recipe(
            name="cnn-rmsprop",
            summary="a CNN of 2x2 convolutions, 3x3 max-pooling and dense layers, RMSprop at 0.001, 15 epochs",
            params={
                "architecture": "small_cnn",
                "optimizer": "rmsprop",
                "learning_rate": 1e-3,
                "momentum": 0.0,
                "weight_decay": 0.0,
                "lr_schedule": "constant",
                "batch_size": 32,
                "augmentation": 0.0,
                "cnn_depth": 3,
                "cnn_filters": 32,
                "cnn_kernel": 2,
                "cnn_pool": 3,
                "cnn_norm": False,
                "pooling": "grid",
                "head_depth": 1,
                "head_width": 128,
            },
            max_epochs=15,
            notes=(
                "torch's RMSprop averages over a longer past than Keras' (0.99 against 0.9)",
                "a sigmoid over one output is the same as a softmax over two, used here",
                "the number of layers and filters is not given: three blocks of 32, 64 and 128, one dense layer of 128",
                "the last map is averaged over 4 x 4 cells before the dense layers, so that they fit any image size",
            ),
        ),
    )
}


def name_recipe(params: Mapping[str, Any]) -> str | None:
    """The recipe whose configuration `params` is, what they leave open at its default; None where they are none."""
    full = {**TrialConfig(architecture="").to_params(), **params}
    return next((recipe.name for recipe in RECIPES.values() if recipe.config.to_params() == full), None)


def find_recipe(name: str) -> Recipe:
    """Raises ValueError naming the known ones."""
    if name not in RECIPES:
        hint = did_you_mean(name, RECIPES)
        raise ValueError(f"unknown recipe {name!r}{hint}; it must be one of {', '.join(RECIPES)}")
    return RECIPES[name]
