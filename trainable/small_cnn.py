"""Our own small net: a few convolution blocks whose depth, filters and kernel size are hyperparameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from trainable.heads import GlobalPooling, Head

if TYPE_CHECKING:
    from trainable.config import TrialConfig


class SmallCNN(nn.Module):
    """`cnn_depth` blocks of convolution, batch norm, ReLU and 2 x 2 max-pool, then global pooling.

    Takes float (N, 1, S, S) with S >= 2 ** cnn_depth, gives logits (N, num_classes). The filters double from
    block to block, beginning with `cnn_filters`.
    """

    def __init__(self, config: TrialConfig, num_classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        num_in, num_out = 1, config.cnn_filters
        for _ in range(config.cnn_depth):
            kernel = config.cnn_kernel
            blocks += [
                nn.Conv2d(num_in, num_out, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(num_out),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
            num_in, num_out = num_out, 2 * num_out
        self.features = nn.Sequential(*blocks)
        self.pooling = GlobalPooling(config.pooling)
        self.classifier = Head(num_in, num_classes, config)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.pooling(self.features(images)).flatten(1))
