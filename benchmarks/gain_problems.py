"""The problems of `benchmarks.curvature_gain` and what each method may try on them."""

from itertools import product
from typing import NamedTuple

from benchmarks.foreign_optimizers import KEY
from sciml.runtime.run_folder import ROOT


class Problem(NamedTuple):
    """Overrides of the configuration, the batch, AdamW's number of steps, by how much learning
    rates are larger than those of an FNO, whether there are Fourier modes: without them a floor
    across modes has no meaning, and the damping is tried instead; and whether the model learns its
    samples by heart, so that weight decay is worth a trial.
    """

    overrides: list[str]
    batch: int
    steps: int
    rate: float = 1.0
    has_modes: bool = True
    overfits: bool = False

    def trials(self, method: str) -> list[dict]:
        """Settings of a method, as many of each: eight, and four with weight decay."""
        trials = TRIALS[method] if self.has_modes else WITHOUT_MODES.get(method, TRIALS[method])
        if self.overfits and method in DECAYED:
            group = KEY if KEY in trials[0] else "optimizer"
            chosen = trials[DECAYED[method]]
            if method in WITHOUT_MODES:  # a branch net's inputs are few: its diagonal alone
                chosen = chosen | {"curvature.exclude": "[branches]"}
            trials = trials + [chosen | {f"{group}.weight_decay": w} for w in DECAYS]
        return [t | {RATE: t[RATE] * self.rate} if RATE in t else t for t in trials]


RATE = "optimizer.lr"
DECAYS = (0.1, 0.3, 1.0, 3.0)
DECAYED = {  # which of the eight trials they are added to: rates and damping in the middle
    "adamw": 4,
    "kfac": 3,
    "ekfac": 3,
    "mkor": 3,
    "soap": 3,
    "muon": 4,
    "mfac": 4,
    "library_soap": 3,
    "library_muon": 4,
    "library_shampoo": 3,
}
DATA = f"data_dir={ROOT / 'data'}"
BURGERS = ["data=burgers", "data.pde.stepper.viscosity=0.01", "data.resolution=128", DATA]
BURGERS += ["+data.pde.refine=4", "data.pde.stepper.substeps=800"]
DARCY = ["data=darcy", "data.resolution=32", DATA]
FNO_1D = ["model=fno", "model.width=32", "model.modes=16", "model.depth=4"]
COUNTS = "data.counts={{train: {}, valid: 256, test: 512}}"
MANY, FEW = COUNTS.format(4096), COUNTS.format(512)

PROBLEMS = {
    "fno_many": Problem([*BURGERS, MANY, *FNO_1D], 32, 1500),
    "fno_few": Problem([*BURGERS, FEW, *FNO_1D], 32, 1000),
    "deeponet_many": Problem([*BURGERS, MANY, "model=deeponet"], 64, 3200, 2.0, False, True),
    "deeponet_few": Problem([*BURGERS, FEW, "model=deeponet"], 64, 2000, 2.0, False, True),
    "darcy_fno": Problem([*DARCY, "model=fno"], 16, 400),
    "darcy_tfno": Problem([*DARCY, "model=tfno", "model.width=24", "model.modes=10"], 16, 300),
    "darcy_mgno": Problem([*DARCY, "model=mgno"], 16, 200, 0.25, has_modes=False),
    "darcy_unet": Problem([*DARCY, "model=unet"], 16, 200, 0.25, has_modes=False),
}


def grid(**values: tuple) -> list[dict]:
    return [dict(zip(values, row, strict=True)) for row in product(*values.values())]


def _trials() -> dict[str, list[dict]]:
    """Eight of each."""
    lr, eps = RATE, "optimizer.eps"
    floor, damping = "curvature.floor", "curvature.damping"
    adamw = [
        *grid(**{lr: (4e-3, 8e-3, 1.6e-2), eps: (1e-8,)}),
        *grid(**{lr: (8e-3, 1.6e-2), eps: (1e-5, 1e-4)}),
        {lr: 1.6e-2, eps: 3e-4},
    ]
    factored = [
        *grid(**{lr: (4e-3, 8e-3, 1.6e-2), floor: (1e-2, 1e-3)}),
        {lr: 8e-3, floor: 1e-1},
        {lr: 8e-3, floor: 1e-2, damping: 1e-1},
    ]
    slow = {"optimizer.factor_period": 2, "optimizer.basis_period": 20}
    soap = grid(**{lr: (4e-3, 8e-3, 1.6e-2, 3.2e-2), eps: (1e-8, 1e-4)})
    muon = grid(**{lr: (5e-3, 1e-2, 2e-2, 4e-2), "optimizer.adamw_lr": (0.2, 0.5)})
    newton = grid(
        **{
            "curvature.preconditioner": ("kfac", "jacobi"),
            damping: (1e-2, 1e-1, 1.0, 10.0),
            "curvature.max_iterations": (10,),
        }
    )
    mfac = grid(**{lr: (4e-3, 8e-3, 1.6e-2, 3.2e-2), damping: (1e-1, 1.0)})
    return {
        "adamw": [{"optimizer": "adamw", "+optimizer.eps": t.pop(eps)} | t for t in adamw],
        **{m: [{"curvature": m} | t for t in factored] for m in ("kfac", "ekfac", "mkor")},
        "soap": [{"optimizer": "soap"} | slow | t for t in soap],
        "muon": [{"optimizer": "muon"} | t for t in muon],
        "mfac": [{"curvature": "mfac"} | t for t in mfac],
        "newton_cg": [{"curvature": "newton_cg"} | t for t in newton],
    }


def _library() -> dict[str, list[dict]]:
    """Of pytorch-optimizer, with the periods that ours have."""
    lr = (4e-3, 8e-3, 1.6e-2, 3.2e-2)
    soap = {KEY: "SOAP", f"{KEY}.precondition_frequency": 20}
    shampoo = {KEY: "ScalableShampoo", f"{KEY}.preconditioning_compute_steps": 20}
    shampoo[f"{KEY}.moving_average_for_momentum"] = True  # a sum would make steps ten times longer
    slow = (2.5e-4, 5e-4, 1e-3, 2e-3)  # its squares begin at zero: early steps are up to 30 lr
    muon = grid(**{RATE: (5e-3, 1e-2, 2e-2, 4e-2), f"{KEY}.adamw_share": (0.2, 0.5)})
    return {
        "library_soap": [soap | t for t in grid(**{RATE: lr, f"{KEY}.eps": (1e-8, 1e-4)})],
        "library_shampoo": [
            shampoo | t for t in grid(**{RATE: slow, f"{KEY}.matrix_eps": (1e-6, 1e-3)})
        ],
        "library_muon": [{KEY: "Muon"} | t for t in muon],
    }


TRIALS = _trials() | _library()
WITHOUT_MODES = {
    m: [
        {"curvature": m} | ({"curvature.kl_clip": 1e-2} if m != "mkor" else {}) | t
        for t in grid(**{RATE: (8e-3, 1.6e-2), "curvature.damping": (3e-2, 1e-1, 3e-1, 1.0)})
    ]
    for m in ("kfac", "ekfac", "mkor")
}
