"""The largest learning rates that the curvature allows: local, and for full-batch steps."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from curvlinops import HessianLinearOperator
from scipy.sparse import diags_array
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from torch import Tensor, nn

from sciml.curvature.real_view import as_real


class AdamScaling(NamedTuple):
    """Adam's, of the weights of a checkpoint: P = (v / (1 - beta_2^t))^(1/2) + eps, [n]."""

    diagonal: Tensor
    rate: float  # of the next step
    beta: float  # of the first moment

    def applied(self, hessian: HessianLinearOperator) -> LinearOperator:
        """P^(-1/2) H P^(-1/2), whose eigenvalues are those of P^(-1) H."""
        root = aslinearoperator(diags_array(self.diagonal.numpy() ** -0.5))
        return root @ hessian.to_scipy() @ root


def adam_scaling(
    state: Mapping[str, Any], parameters: Iterable[nn.Parameter]
) -> AdamScaling | None:
    """From the `state_dict` of an Adam or AdamW that was made with these parameters, for those
    that are trained. None if one of them has not been stepped yet.
    """
    (group,), parts = state["param_groups"], []
    for place, p in enumerate(parameters):
        if not p.requires_grad:
            continue
        if place not in state["state"]:
            return None
        entry = state["state"][place]
        moment = as_real(entry["exp_avg_sq"]).double().flatten()
        moment = moment / (1 - group["betas"][1] ** float(entry["step"]))
        parts.append(moment.sqrt() + group["eps"])
    return AdamScaling(torch.cat(parts), float(group["lr"]), float(group["betas"][0]))


def descent_limit(eigenvalue: float, momentum: float = 0.0) -> float:
    """Above it a step of theta <- theta - rate m, m <- momentum m + (1 - momentum) grad grows along
    the eigenvector of a quadratic function [Cohen et al. 2022, arXiv:2207.14484]:

        (2 + 2 momentum) / (1 - momentum) / eigenvalue

    which is 2 / eigenvalue for gradient descent and 38 / eigenvalue for Adam's momentum 0.9, the
    eigenvalue then being that of the preconditioned Hessian.
    """
    return (2 + 2 * momentum) / (1 - momentum) / eigenvalue
