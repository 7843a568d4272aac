"""Weights of a checkpoint into a task, if they are its own."""

from typing import Any

from lightning import LightningModule


def require_fit(task: LightningModule, checkpoint: dict[str, Any], origin: str) -> None:
    """ValueError naming the first difference if the weights in `checkpoint` are not those of
    `task`.
    """
    own, found = task.state_dict(), checkpoint["state_dict"]
    lacking, foreign = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
    reshaped = [k for k in own if k in found and own[k].shape != found[k].shape]
    if not (lacking or foreign or reshaped):
        return
    if reshaped:
        name = reshaped[0]
        reason = f"{name} has shape {tuple(found[name].shape)}, expected {tuple(own[name].shape)}"
    else:
        reason = (
            f"it lacks {lacking[:1]} and holds {foreign[:1]}"
            if lacking
            else f"it holds {foreign[:1]}"
        )
    raise ValueError(
        f"{origin}: a checkpoint of another model ({len(lacking)} weights missing, {len(foreign)} "
        f"unknown, {len(reshaped)} of another shape): {reason}. Give the model, its settings "
        "and the data that the checkpoint was trained with; they stand in its run's config.yaml."
    )


def load_weights(task: LightningModule, checkpoint: dict[str, Any]) -> None:
    task.load_state_dict(checkpoint["state_dict"])
