"""A model on a test split: figures for the table, errors and fields for the report."""

from collections.abc import Callable

import torch
from torch import Tensor

from datasets.schema import Source
from sciml.evaluation.field_errors import FieldErrors
from sciml.evaluation.metrics import channel_names
from sciml.evaluation.result import Result, choose_samples
from solvers.grid import Grid


def evaluate(
    model: Callable[[Tensor], Tensor],
    source: Source,
    *,
    prefix: str,
    batch_size: int,
    like: Tensor,
    trained: Grid | None = None,
) -> tuple[dict[str, float], Result]:
    """Errors of a [b, c_in, *space] -> u [b, c, *space], in physical units, on all samples of
    `source`.

    `trained` is the grid of training: on a finer one errors are split at what it resolves.
    Returns the figures, keyed `prefix/relative_l2` and so on, and what the report shows of them.
    """
    meta = source.metadata
    errors = FieldErrors(channel_names(meta.target_fields, meta.grid), meta.grid, trained)

    def predict(indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        batch = source.__getitems__(indices)
        with torch.no_grad():
            return batch.input, batch.target, model(batch.input.to(like)).cpu()

    for indices in torch.arange(len(source)).split(batch_size):
        _, target, prediction = predict(indices.tolist())
        errors.update(prediction, target, indices)
    collected = errors.compute()
    input, target, prediction = predict(choose_samples(collected).tolist())
    result = Result.from_errors(
        collected, prefix, meta.grid, input=input, target=target, prediction=prediction
    )
    return errors.summary(prefix), result
