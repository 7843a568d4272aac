"""Second-order training: Kronecker factors and their relatives, complex weights included."""

from sciml.curvature.adahessian import AdaHessian
from sciml.curvature.ekfac import EKFAC
from sciml.curvature.kfac import KFAC
from sciml.curvature.mfac import MFAC
from sciml.curvature.mkor import MKOR
from sciml.curvature.muon import SpectralMuon
from sciml.curvature.newton_cg import NewtonCG
from sciml.curvature.soap import SpectralSOAP

__all__ = [
    "EKFAC",
    "KFAC",
    "MFAC",
    "MKOR",
    "AdaHessian",
    "NewtonCG",
    "SpectralMuon",
    "SpectralSOAP",
]
