"""Tables 1 and 2 of the FaceNet paper: row → output, parameters in thousands, multiply-adds in millions ("FLOPS").

Schroff, Kalenichenko, Philbin: FaceNet: A Unified Embedding for Face Recognition and Clustering, CVPR 2015. A name is
that of the layer here; `concat`, `fc1` and `fc2` are flat here, and 7 × 7 × 256 and 1 × 32 × 128 in the paper.
"""

from __future__ import annotations

PaperTable = dict[str, tuple[tuple[int, ...], float, float]]

NN1: PaperTable = {
    "conv1": ((110, 110, 64), 9, 115),
    "pool1": ((55, 55, 64), 0, 0),
    "rnorm1": ((55, 55, 64), 0, 0),
    "conv2a": ((55, 55, 64), 4, 13),
    "conv2": ((55, 55, 192), 111, 335),
    "rnorm2": ((55, 55, 192), 0, 0),
    "pool2": ((28, 28, 192), 0, 0),
    "conv3a": ((28, 28, 192), 37, 29),
    "conv3": ((28, 28, 384), 664, 521),
    "pool3": ((14, 14, 384), 0, 0),
    "conv4a": ((14, 14, 384), 148, 29),
    "conv4": ((14, 14, 256), 885, 173),
    "conv5a": ((14, 14, 256), 66, 13),
    "conv5": ((14, 14, 256), 590, 116),
    "conv6a": ((14, 14, 256), 66, 13),
    "conv6": ((14, 14, 256), 590, 116),
    "pool4": ((7, 7, 256), 0, 0),
    "concat": ((7 * 7 * 256,), 0, 0),
    "fc1": ((32 * 128,), 103_000, 103),
    "fc2": ((32 * 128,), 34_000, 34),
    "fc7128": ((128,), 524, 0.5),
    "L2": ((128,), 0, 0),
}
NN2: PaperTable = {
    "conv1": ((112, 112, 64), 9, 119),
    "pool1": ((56, 56, 64), 0, 0),
    "norm1": ((56, 56, 64), 0, 0),
    "inception_2": ((56, 56, 192), 115, 360),
    "norm2": ((56, 56, 192), 0, 0),
    "pool2": ((28, 28, 192), 0, 0),
    "inception_3a": ((28, 28, 256), 164, 128),
    "inception_3b": ((28, 28, 320), 228, 179),
    "inception_3c": ((14, 14, 640), 398, 108),
    # 545,536: the paper's only row that is cut, not rounded.
    "inception_4a": ((14, 14, 640), 545, 107),
    "inception_4b": ((14, 14, 640), 595, 117),
    "inception_4c": ((14, 14, 640), 654, 128),
    "inception_4d": ((14, 14, 640), 722, 142),
    "inception_4e": ((7, 7, 1024), 717, 56),
    "inception_5a": ((7, 7, 1024), 1_600, 78),
    "inception_5b": ((7, 7, 1024), 1_600, 78),
    "avg_pool": ((1024,), 0, 0),
    "fully_conn": ((128,), 131, 0.1),
    "L2": ((128,), 0, 0),
}
PAPER = {"nn1": NN1, "nn2": NN2}
