"""Linear layers one after another."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}
Activation = Literal["gelu", "relu", "silu", "tanh"]


class DenseStack(nn.Sequential):
    """x [..., sizes[0]] -> [..., sizes[-1]] with an activation between linear layers, and after the
    last one too if `ends_active`.

    Weights are Glorot normal and biases zero at first, as in the published code of DeepONet.
    """

    def __init__(
        self, sizes: Sequence[int], activation: Activation = "gelu", *, ends_active: bool = False
    ):
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"widths {list(sizes)} of a stack of layers must be at least 1.")
        layers = []
        for before, after in zip(sizes[:-1], sizes[1:], strict=True):
            linear = nn.Linear(before, after)
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
            layers += [linear, ACTIVATIONS[activation]()]
        super().__init__(*(layers if ends_active else layers[:-1]))
