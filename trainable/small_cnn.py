"""Our own small model: a few convolution blocks whose depth, filters and kernel size are hyperparameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from trainable.heads import GlobalPooling, Head

if TYPE_CHECKING:
    from trainable.config import TrialConfig


class SmallCNN(nn.Module):
    """`cnn_depth` blocks of convolution, batch norm (with `cnn_norm`), ReLU and max-pool, then global pooling.

    Takes float (N, num_channels, S, S) with S >= cnn_pool ** cnn_depth, gives logits (N, num_classes). The
    filters double from block to block, beginning with `cnn_filters`.
    """

    def __init__(self, config: TrialConfig, num_classes: int, num_channels: int = 1) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        num_in, num_out = num_channels, config.cnn_filters
        for _ in range(config.cnn_depth):
            kernel, norm = config.cnn_kernel, [nn.BatchNorm2d(num_out)] if config.cnn_norm else []
            convolution = nn.Conv2d(num_in, num_out, kernel, padding=kernel // 2, bias=not config.cnn_norm)
            blocks += [convolution, *norm, nn.ReLU(inplace=True), nn.MaxPool2d(config.cnn_pool)]
            num_in, num_out = num_out, 2 * num_out
        self.features = nn.Sequential(*blocks)
        self.pooling = GlobalPooling(config.pooling)
        self.classifier = Head(num_in * self.pooling.num_cells, num_classes, config)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.pooling(self.features(images)).flatten(1))
