"""Double precision, wherever it can be had."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Numbers in double precision: on their own device, on the processor where that device, such as
    Apple's, has none.
    """
    if not has_double(x.device):
        x = x.cpu()
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def has_double(device: torch.device) -> bool:
    return device.type != "mps"
