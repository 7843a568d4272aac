"""Second-order training: Kronecker-factored curvature and its relatives, complex weights included."""

from sciml.curvature.kfac import KFAC

__all__ = ["KFAC"]
