"""A trained model as two files that hold numbers and text alone."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from datasets.normalize import Normalizer
from datasets.schema import Metadata
from datasets.store import commit
from sciml.models.build import build_model

WEIGHTS, ABOUT, FORMAT = "model.safetensors", "model.json", 1
PRECISIONS = {
    torch.float16: nn.Module.half,
    torch.bfloat16: nn.Module.bfloat16,
    torch.float32: nn.Module.float,
    torch.float64: nn.Module.double,
}


class Surrogate(nn.Module):
    """u(a) = D( model( N(a) ) ) in physical units, with the normalisers N and D of its training.

    Input [b, c_in, *space], output [b, c_out, *space], fields as in `metadata`. `config` is what
    the model was built from. `save` writes `model.safetensors` (weights and normalisers) and
    `model.json` (configuration, metadata, sha256 of these and of the weights) into a folder;
    `load` reads them. Nothing in them is executed: the class must be one that a package of ours
    exports, with arguments of the annotated kinds.
    """

    def __init__(
        self,
        model: nn.Module,
        input_normalizer: Normalizer,
        target_normalizer: Normalizer,
        metadata: Metadata,
        config: Mapping[str, Any],
    ):
        super().__init__()
        self.model, self.metadata, self.config = model, metadata, dict(config)
        self.input_normalizer, self.target_normalizer = input_normalizer, target_normalizer

    def forward(self, a: Tensor) -> Tensor:
        return self.target_normalizer.inverse(self.model(self.input_normalizer(a)))

    def save(self, folder: Path | str) -> Path:
        """Write both files, the description last; returns the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {  # clones, since the format has no tensors that share memory
            name: value.detach().cpu().contiguous().clone()
            for name, value in self.state_dict().items()
        }
        weights = save_tensors(tensors)
        about = {
            "format": FORMAT,
            "model": self.config,
            "metadata": self.metadata.to_dict(),
            "sha256": digest(self.config, self.metadata.to_dict(), weights),
        }
        commit(folder / WEIGHTS, weights)
        commit(folder / ABOUT, json.dumps(about, indent=1).encode())
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> "Surrogate":
        """In evaluation mode, on the CPU. ValueError for what is missing, altered or not ours."""
        folder = Path(folder)
        about, weights = _description(folder / ABOUT), folder / WEIGHTS
        if not weights.is_file():
            raise ValueError(f"{weights}: no such file; a saved model is {WEIGHTS} and {ABOUT}.")
        data = weights.read_bytes()
        if digest(about["model"], about["metadata"], data) != about["sha256"]:
            raise ValueError(
                f"{folder}: altered, the sha256 of {WEIGHTS} and of the description is not that in "
                f"{ABOUT}; copy both anew."
            )
        try:
            tensors = load_tensors(data)
        except SafetensorError as error:
            raise ValueError(f"{weights}: not safetensors ({error}).") from error
        try:
            metadata = Metadata.from_dict(about["metadata"])
            model = build_model(about["model"], metadata)
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"{folder / ABOUT}: {error}.") from error
        kinds = {x.dtype for name, x in tensors.items() if name.startswith("model.")}
        if len(kinds := kinds & PRECISIONS.keys()) == 1:
            PRECISIONS[kinds.pop()](model)  # `to` would make complex weights real
        sides = (metadata.in_channels, metadata.out_channels)
        normalizers = [Normalizer(*torch.ones(2, c, dtype=torch.float64)) for c in sides]
        surrogate = cls(model, *normalizers, metadata, about["model"])
        own = surrogate.state_dict()
        wrong = sorted(own.keys() ^ tensors.keys()) or [
            name for name in own if own[name].shape != tensors[name].shape
        ]
        if wrong:
            raise ValueError(
                f"{weights}: {wrong[0]} does not fit the model that {ABOUT} describes "
                f"({len(wrong)} tensors differ)."
            )
        surrogate.load_state_dict(tensors)
        return surrogate.eval()


def digest(model: Mapping[str, Any], metadata: Mapping[str, Any], weights: bytes) -> str:
    """sha256 of what a saved model consists of."""
    text = json.dumps({"model": model, "metadata": metadata}, sort_keys=True)
    return hashlib.sha256(text.encode() + weights).hexdigest()


def _description(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a saved model is {WEIGHTS} and {ABOUT}.")
    try:
        about = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}).") from error
    kinds = {"model": dict, "metadata": dict, "sha256": str}
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"{path}: not the description of a model in format {FORMAT}.")
    for key, kind in kinds.items():
        if not isinstance(about.get(key), kind):
            raise ValueError(f"{path}: {key!r} is missing or not {kind.__name__}.")
    if "_target_" not in about["model"]:
        raise ValueError(f"{path}: 'model' has no _target_, the class of the model.")
    return about
