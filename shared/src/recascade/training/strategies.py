"""How several processes train one model: each holds all of it, or a share of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import lightning.pytorch as L
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from recascade.errors import ConfigurationError

StrategyName = Literal["auto", "ddp", "fsdp"]


class ReplicatedStrategy(DDPStrategy):
    """Distributed data parallel: each process holds the whole model and has its share of every batch.

    A process's loss is a mean over its own targets. It is weighted by their number, so that the mean over processes, of
    losses and of gradients, is the mean over all targets of the batch, as one process would have computed it.
    """

    def __init__(self, **keywords: Any) -> None:
        # Buffers hold facts of the data, the same in every process; sending them around at each step would be waste.
        super().__init__(broadcast_buffers=False, **keywords)

    def training_step(self, batch: Any, *arguments: Any) -> Tensor:
        """The module's loss times its weight."""
        loss: Tensor = super().training_step(batch, *arguments)  # type: ignore[assignment]
        return loss * share_of_targets(batch.target_count, loss.device)


class ShardedStrategy(ReplicatedStrategy):
    """Fully sharded data parallel (PyTorch's ``fully_shard``): each process holds a share of weights, gradients and
    Adam's moments, and the whole weights only while a step computes.

    All weights form one group: in a recommender the table of items is most of the model, and it is needed at both ends
    of a step. (Our choice.) Checkpoints hold whole tensors: one process can go on from them, or any other number.

    Lightning's own ``ModelParallelStrategy`` reads checkpoints around the plugin that keeps them free of pickle, so
    this one shards where Lightning would have replicated.
    """

    def configure_ddp(self) -> None:
        """Shard, where Lightning would replicate.

        Raises:
            ConfigurationError: the model has a recurrent network of PyTorch's, which keeps its weights by other means.
        """
        module = self.lightning_module
        assert module is not None
        if any(isinstance(part, nn.RNNBase) for part in module.modules()):
            raise ConfigurationError(
                "trainer.strategy is 'fsdp', which cannot share out a recurrent network; set it to 'ddp'."
            )
        self._hooks = [(hooks, dict(hooks)) for hooks in _state_hooks(module)]
        # A table without rows has nothing to share out, and an optimiser takes either shares or whole tensors.
        self._empty = {parameter for parameter in module.parameters() if not parameter.numel()}
        for parameter in self._empty:
            parameter.requires_grad_(False)
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        self.model = fully_shard(_Step(module), mesh=mesh, ignored_params=self._empty)  # type: ignore[assignment]

    def on_validation_start(self) -> None:
        """Validation takes the weights together once, and asks for parts of the model in any order."""
        if isinstance(self.model, FSDPModule):
            self.model.unshard()

    def on_validation_end(self) -> None:
        """Training goes on with shares."""
        if isinstance(self.model, FSDPModule):
            self.model.reshard()

    def on_train_end(self) -> None:
        """Leave the module with whole weights and no trace of the sharding."""
        module = self.lightning_module
        assert module is not None and isinstance(self.model, FSDPModule)
        self.model.reshard()
        whole: dict[nn.Parameter, nn.Parameter] = {}
        for part in module.modules():
            for name, parameter in list(part.named_parameters(recurse=False)):
                if isinstance(parameter, DTensor):
                    if parameter not in whole:
                        whole[parameter] = nn.Parameter(_whole(parameter.detach()), parameter.requires_grad)
                    setattr(part, name, whole[parameter])
        for parameter in self._empty:
            parameter.requires_grad_(True)
        # The hooks that sharding has left would put shares in the place of the weights that are loaded next.
        for hooks, before in self._hooks:
            hooks.clear()
            hooks.update(before)
        self.model = module

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole weights; every process must ask for them."""
        assert self.lightning_module is not None
        return {name: _whole(value) for name, value in self.lightning_module.state_dict().items()}

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Whole moments; every process must ask for them."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        moments = {
            index: {name: _whole(value) for name, value in values.items()} for index, values in state["state"].items()
        }
        return {**state, "state": moments}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's share of whole moments."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            moments = {
                index: {name: _share(value, parameters[index]) for name, value in values.items()}
                for index, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": moments})


class _Step(nn.Module):
    """What is sharded: a module around the LightningModule, which thereby stays as it is, but for its weights."""

    def __init__(self, module: L.LightningModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """The step that Lightning asks for: it lends the module's ``forward`` to it."""
        return self.module(*arguments, **keywords)


def _state_hooks(module: nn.Module) -> Iterator[dict[Any, Any]]:
    """What each part of a module does when its state is taken or loaded."""
    for part in module.modules():
        yield from (part._state_dict_pre_hooks, part._load_state_dict_pre_hooks, part._load_state_dict_post_hooks)


def strategy_of(name: StrategyName, processes: int) -> Strategy | str:
    """Lightning's strategy for so many processes; ``auto`` replicates.

    Args:
        name: of ``trainer.strategy``.
        processes: that train together.
    """
    if processes == 1:
        return "auto"
    return ShardedStrategy() if name == "fsdp" else ReplicatedStrategy()


def gathered_weights(model: nn.Module) -> dict[str, Tensor] | None:
    """The whole weights of a model that is sharded over processes, which must all ask; None for any other model."""
    state = model.state_dict()
    if not any(isinstance(value, DTensor) for value in state.values()):
        return None
    return {name: _whole(value) for name, value in state.items()}


def share_of_targets(targets: int, device: torch.device) -> Tensor:
    """Scalar, the weight of this process's mean in the mean over processes: its targets / mean targets of a process.

    The other processes' counts come over the network and stay on the device: nobody waits for them.
    """
    own = torch.full((), float(targets), dtype=torch.float64, device=device)
    total = own.clone()
    dist.all_reduce(total)
    return (own * dist.get_world_size() / total).float()


def _whole(value: Any) -> Any:
    """A sharded tensor put together on the CPU, anything else as it is; every process must ask."""
    # Unequal shares come together in a larger tensor, of which a copy leaves the padding out.
    return value.full_tensor().to("cpu", copy=True) if isinstance(value, DTensor) else value


def _share(value: Any, parameter: Tensor) -> Any:
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    # Every process has read the same whole tensor: nothing needs sending.
    value = value.to(parameter.device)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
