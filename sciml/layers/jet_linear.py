"""A linear layer on values and derivatives together."""

from torch import Tensor, nn
from torch.nn.functional import linear, pad


class JetLinear(nn.Linear):
    """y_0 = W x_0 + b of values and y_s = W x_s of derivatives, for jets x [s, b, in], s = 0, 1, ..

    What carries derivatives of a network forward (Taylor mode): a jet holds the values of a field
    at b points, and below them any of its derivatives, in an order that is the caller's. They share
    the weights, and the bias has no derivative. So `curvature` sees all of them in one call.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 3 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"JetLinear: expected jets [s, b, {self.in_features}], got {tuple(x.shape)}; "
                "values alone are x[None]."
            )
        y = linear(x, self.weight)
        if self.bias is None:
            return y
        bias = self.bias.expand(1, 1, -1)
        return y + pad(bias, (0, 0, 0, 0, 0, len(x) - 1))
