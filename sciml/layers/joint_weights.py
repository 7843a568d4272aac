"""One factorised tensor for the spectral weights of all layers."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sciml.layers.factorized_weight import FactorizedWeight


class JointWeights:
    """A factory of weights that are the layers of one tensor [layers, *modes, in, out].

    The first call makes it by `make(spectrum, in, out, layers=layers)`; each call hands out the
    next layer. `tensor` is the module with the parameters: whoever builds layers with this factory
    registers it, once.
    """

    def __init__(self, make: Callable[..., FactorizedWeight], layers: int):
        self.make, self.layers = make, layers
        self.tensor: FactorizedWeight | None = None
        self._handed = 0

    def __call__(
        self, spectrum: Sequence[int], in_channels: int, out_channels: int
    ) -> "LayerWeight":
        if self.tensor is None:
            self.tensor = self.make(spectrum, in_channels, out_channels, layers=self.layers)
        wanted = (*spectrum, in_channels, out_channels)
        if self.tensor.shape[1:] != wanted or self._handed == self.layers:
            raise ValueError(
                f"JointWeights: layer {self._handed + 1} with a weight {wanted} is not among the "
                f"{self.layers} layers {self.tensor.shape[1:]} of the tensor; layers that share "
                "their weights have equal modes and channels."
            )
        self._handed += 1
        return LayerWeight(self.tensor, self._handed - 1)


class LayerWeight(nn.Module):
    """One layer of a tensor that is registered elsewhere; no parameters of its own."""

    def __init__(self, tensor: FactorizedWeight, layer: int):
        super().__init__()
        self._tensor = (tensor,)  # in a tuple, which torch does not register
        self.layer = layer

    @property
    def tensor(self) -> FactorizedWeight:
        return self._tensor[0]

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    def dense(self) -> Tensor:
        return self.tensor.dense(self.layer)

    def contract(self, spectrum: Tensor) -> Tensor:
        return self.tensor.contract(spectrum, self.layer)
