"""The part that all systems share: networks with optimizers, the averaged weights, random numbers and losses."""

from __future__ import annotations

import contextlib
import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from fused_gan.base.errors import require
from fused_gan.base.seeds import stream_seed
from fused_gan.models import VAELikelihood
from fused_gan.models.sampler import make_images
from fused_gan.models.weights import load_weights
from fused_gan.systems.batches import Batches
from fused_gan.systems.config import TrainingConfig
from fused_gan.systems.processes import make_accelerator, own_rows
from fused_gan.systems.step_graph import StepGraph, graph_obstacle


class System(ABC):
    """Networks in training, one `step()` at a time.

    Nothing in `step()` waits for the device. It sums the losses on the device, and `mean_losses()` reads them. All that
    the host changes from step to step (random numbers, step sizes, the decay of the average) happens before and after
    `compute()`. So `compute()` works on the same memory each time, and can be replayed as a CUDA graph.

    Args:
        networks: by name, on the data's device, in its dtype. The first network makes the images, and its weights are
            averaged.
        lrs: the step size of each network.
        losses: the names of the losses that a step records.
        data: the real images.
        config: optimisation and seed.
        accelerator: this process's; by default a new one.

    Raises:
        UserError: the batch cannot be shared, or a CUDA graph is asked for and cannot be had.
    """

    conditional = False  # whether the networks take class labels

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        lrs: Mapping[str, float],
        losses: Sequence[str],
        data: Batches,
        config: TrainingConfig,
        accelerator: Accelerator | None,
    ) -> None:
        self.accelerator = accelerator or make_accelerator(data.device, config.mixed_precision)
        self.networks = dict(networks)
        self.data = data
        self.config = config
        self.batch_size = config.batch_size
        self.steps_done = 0
        self.microbatches = own_rows(self.accelerator, config.batch_size, config.gradient_accumulation)

        self._sampling = next(iter(self.networks))
        self._averaged: nn.Module | None = None
        if config.ema_decay:
            self._averaged = copy.deepcopy(self.networks[self._sampling]).requires_grad_(False).eval()

        self._parameters = {name: list(network.parameters()) for name, network in self.networks.items()}
        self._lrs = dict(lrs)
        # Without Accelerate's wrappers, which look for other packages on disk in every step: 10 % of a VAE's step.
        self.optimizers = {
            name: _optimizer(config, self._parameters[name], lrs[name], data.device) for name in self.networks
        }
        # The step calls these: the networks themselves, or wrapped in DDP or autocast.
        self.wrapped = {
            name: self.accelerator.prepare_model(network, device_placement=False)
            for name, network in self.networks.items()
        }
        # A random stream of its own: no other code's random numbers change a run, and a run changes no other code's.
        self.random = torch.Generator(data.device)
        self.random.manual_seed(stream_seed(config.seed, "training"))

        self.losses = tuple(losses)
        self._loss_sums = torch.zeros(len(losses), device=data.device, dtype=data.dtype)
        self._losses_summed = 0

        self.graph_obstacle = graph_obstacle(config, data, self.accelerator.num_processes)
        require(config.cuda_graph != "on" or self.graph_obstacle is None, f"cuda_graph: {self.graph_obstacle}")
        self.replays = config.cuda_graph != "off" and self.graph_obstacle is None
        self._work = self._make_work()

    @property
    def sampling_network(self) -> nn.Module:
        """The network that makes pictures: the averaged one, if the run averages weights."""
        return self.networks[self._sampling] if self._averaged is None else self._averaged

    @property
    def likelihood(self) -> VAELikelihood | None:
        """The likelihood of images under the network that makes pictures; None for a system without a likelihood."""
        return None

    def generate(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W) made from noise (B, z_dim) and, for a conditional system, labels (B,).

        Noise and labels may be on any device.
        """
        return make_images(self.sampling_network, noise, labels)

    def step(self) -> None:
        """Take one training step."""
        self._set_lrs()
        self.draw()
        self._work()
        self._finish()

    @abstractmethod
    def draw(self) -> None:
        """Draw this step's random numbers for the whole batch, always in the same order, into the same memory."""

    @abstractmethod
    def compute(self) -> dict[str, Tensor]:
        """Update the networks with the numbers drawn; return the losses by name."""

    @abstractmethod
    def scores(self) -> dict[str, float]:
        """Return scores of the pictures, by which the best checkpoint can be chosen. Lower is better.

        The same weights give the same scores at every call. No random state changes.
        """

    # ---- the pieces of a step ----------------------------------------------------------------------------------------

    def empty(self, *shape: int) -> Tensor:
        """Return memory for random numbers, on the data's device, in its dtype."""
        return torch.empty(shape, device=self.data.device, dtype=self.data.dtype)

    def backward(self, name: str, loss: Tensor, index: int) -> None:
        """Add the gradient of microbatch `index`'s loss. With the last microbatch, the processes share their sums."""
        last = index == len(self.microbatches) - 1
        with contextlib.nullcontext() if last else self.accelerator.no_sync(self.wrapped[name]):
            loss = loss if len(self.microbatches) == 1 else loss / len(self.microbatches)
            scaled: Tensor = loss if self.accelerator.scaler is None else self.accelerator.scaler.scale(loss)
            torch.autograd.backward(scaled)

    def update(self, name: str) -> None:
        """Update a network's weights from its gradients."""
        optimizer, scaler = self.optimizers[name], self.accelerator.scaler
        if self.config.gradient_clip:
            if scaler is not None:
                scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(self._parameters[name], self.config.gradient_clip)
        if scaler is None:
            optimizer.step()
        else:  # the scaler skips a step whose float16 gradients overflowed
            scaler.step(optimizer)
            scaler.update()

    def _set_lrs(self) -> None:
        if not changes_lr(self.config):
            return
        factor = lr_factor(self.config, self.steps_done)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"].fill_(self._lrs[name] * factor)

    def _make_work(self) -> Callable[[], None]:
        return StepGraph(self._compute, self.data.device) if self.replays else self._compute

    def _compute(self) -> None:
        losses = self.compute()
        self._loss_sums += torch.stack([losses[name].detach().to(self._loss_sums.dtype) for name in self.losses])

    def _finish(self) -> None:
        """Average the weights, count the step."""
        if self._averaged is not None:
            # The decay starts low, because otherwise the untrained weights would linger for 1/(1 − decay) steps.
            decay = min(self.config.ema_decay, (1 + self.steps_done) / (10 + self.steps_done))
            average_into(self._averaged, self.networks[self._sampling], decay)
        self._losses_summed += 1
        self.steps_done += 1

    # ---- between steps -----------------------------------------------------------------------------------------------

    def mean_losses(self) -> dict[str, float]:
        """Return the mean losses over all processes and the steps since the last call (at least one step).

        Waits for the device.
        """
        means: Tensor = self.accelerator.reduce(self._loss_sums / self._losses_summed, "mean")
        self._loss_sums.zero_()
        self._losses_summed = 0
        return dict(zip(self.losses, means.tolist(), strict=True))

    def is_finite(self) -> bool:
        """Whether every weight of every network is a finite number. Waits for the device."""
        weights = [weight.detach() for parameters in self._parameters.values() for weight in parameters]
        return bool(torch.stack([norm.isfinite() for norm in torch._foreach_norm(weights, math.inf)]).all())

    def state_dict(self) -> dict[str, Any]:
        """Return the state from which a run goes on as if it had never stopped.

        It consists of tensors, numbers and containers of them.
        """
        state: dict[str, Any] = {name: network.state_dict() for name, network in self.networks.items()}
        if self._averaged is not None:
            state[f"averaged_{self._sampling}"] = self._averaged.state_dict()
        for name, optimizer in self.optimizers.items():
            state[f"{name}_optimizer"] = optimizer.state_dict()["state"]
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        return state | {
            "random": self.random.get_state(),
            "random_of": self.random.device.type,
            "loss_sums": self._loss_sums,
            "losses_summed": self._losses_summed,
            "steps_done": self.steps_done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state that `state_dict()` of a system of the same architecture returned.

        A state from another kind of device leaves out the random numbers, as each kind has its own generator.
        """
        for name, network in self.networks.items():
            load_weights(network, state[name])
            _load_moments(self.optimizers[name], state[f"{name}_optimizer"])
        if self._averaged is not None:
            load_weights(self._averaged, state[f"averaged_{self._sampling}"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if state["random_of"] == self.random.device.type:
            self.random.set_state(state["random"])
        else:
            self.random.manual_seed(stream_seed(self.config.seed, f"training from step {state['steps_done']}"))
        self._loss_sums.copy_(state["loss_sums"])
        self._losses_summed = state["losses_summed"]
        self.steps_done = state["steps_done"]
        self._work = self._make_work()  # a recorded step would use the optimizers' old memory


def changes_lr(config: TrainingConfig) -> bool:
    """Whether the step size changes from step to step."""
    return config.lr_schedule != "constant" or config.warmup_steps > 0


def lr_factor(config: TrainingConfig, step: int) -> float:
    """Return the factor of lr in the step that follows `step` steps."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    way = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    if config.lr_schedule == "linear":
        return 1 - way
    return (1 + math.cos(math.pi * way)) / 2 if config.lr_schedule == "cosine" else 1.0


@torch.no_grad()
def average_into(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Set averaged ← decay · averaged + (1 − decay) · network, for weights and statistics. Counters are copied.

    torch's AveragedModel takes 66 µs where this takes 5, and moves its counter to the device each time.
    """
    ours, theirs = _tensors(averaged), _tensors(network)
    moving = [index for index, tensor in enumerate(ours) if tensor.is_floating_point()]
    torch._foreach_lerp_([ours[index] for index in moving], [theirs[index] for index in moving], 1 - decay)
    for index, tensor in enumerate(ours):
        if not tensor.is_floating_point():
            tensor.copy_(theirs[index])


def means(rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each named scalar over the rows. There is at least one row, and all have the same names."""
    return rows[0] if len(rows) == 1 else {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _optimizer(
    config: TrainingConfig, parameters: list[nn.Parameter], lr: float, device: torch.device
) -> torch.optim.Optimizer:
    """Return the optimizer. A step size that changes is a tensor, so that a replayed step reads its new value."""
    # float32 for weights of any dtype, because Adam's CUDA kernel reads no other.
    size = torch.tensor(lr, device=device, dtype=torch.float32) if changes_lr(config) else lr
    capturable = device.type == "cuda"
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=size, foreach=True, capturable=capturable)
    # fused: one pass over weight, gradient and both moments instead of about ten passes.
    return torch.optim.Adam(parameters, lr=size, betas=config.betas, fused=True, capturable=capturable)


def _load_moments(optimizer: torch.optim.Optimizer, state: dict[int, Any]) -> None:
    """Load the state of each weight. The settings stay this run's, because it may be on another device."""
    groups = optimizer.param_groups
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    optimizer.param_groups = groups
