"""What a method adds to the state of an optimizer: under one key, with its name."""

from torch.optim import Optimizer

KEY = "curvature"


def with_own(state: dict, optimizer: Optimizer, own: dict) -> dict:
    """A state of `torch.optim` and the method's own, `own`, in one."""
    return state | {KEY: {"method": type(optimizer).__name__} | own}


def taken_apart(state: dict, optimizer: Optimizer) -> tuple[dict, dict]:
    """The inverse; ValueError if another method wrote it."""
    state, name = dict(state), type(optimizer).__name__
    own = state.pop(KEY, None)
    if own is None:
        raise ValueError(
            f"{name}: the checkpoint holds no curvature, it was written with curvature=none. "
            f"Continue without {name}, or start anew from its weights."
        )
    if own["method"] != name:
        raise ValueError(
            f"{name}: the checkpoint was written with {own['method']}. Continue with that, or "
            "start anew from its weights."
        )
    return state, own
