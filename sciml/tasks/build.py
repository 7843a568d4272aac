"""A task from a configuration and its data set."""

import inspect
from collections.abc import Callable, Iterable

import torch
from omegaconf import DictConfig, OmegaConf
from torch.nn import Parameter
from torch.optim import Optimizer

from datasets.build import check_target, instantiate
from datasets.kinds import check_kinds
from datasets.normalize import Normalizer, fit
from datasets.recipe import Governed
from datasets.schema import DataSet, Streamed
from sciml.models import build_model, prepare_model
from sciml.tasks.task import Task


def build_task(config: DictConfig, dataset: DataSet, *, prepare: bool = True) -> Task:
    """The model of `config` for the data, its normalisers fitted on the training split, its loss
    and its optimizer. A model whose weights are loaded afterwards need not `prepare`.
    """
    kind, source = task_class(config), dataset.source("train")
    pairs = kind.pairs(source, config.task)
    model = build_model(config.model, pairs.metadata)
    if prepare or not isinstance(dataset, Streamed):
        input_normalizer, target_normalizer = fit(pairs)
    else:  # a stream does not begin twice; the weights to come bring theirs
        input_normalizer, target_normalizer = (
            Normalizer(*torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, count))
            for count in (pairs.metadata.in_channels, pairs.metadata.out_channels)
        )
    if prepare:
        prepare_model(model, pairs, input_normalizer, target_normalizer)
    known = {}
    if "equation" in inspect.signature(kind.__init__).parameters:
        known["equation"] = dataset.recipe() if isinstance(dataset, Governed) else None
    return instantiate(
        config.task,
        model=model,
        metadata=source.metadata,
        optimizer=optimizer_factory(config),
        input_normalizer=input_normalizer,
        target_normalizer=target_normalizer,
        **known,
    )


def optimizer_factory(config: DictConfig) -> Callable[[Iterable[Parameter]], Optimizer]:
    """`optimizer`, within the method of `curvature` if there is one."""
    make = instantiate(config.optimizer)
    if not config.get("curvature"):
        return make
    around = instantiate(config.curvature)
    return lambda parameters: around(make(parameters))


def task_class(config: DictConfig) -> type[Task]:
    """The class of the task, whose settings are of the annotated kinds."""
    target = config.task["_target_"]
    kind = check_target(target)
    if not issubclass(kind, Task):
        raise ValueError(
            f"task._target_: {target} is no task; there are Supervised, Rollout and Physics."
        )
    check_kinds(target, kind, OmegaConf.to_container(config.task, resolve=True))
    return kind
