"""A GAN in training: two networks, their optimizers, the averaged generator, and the step."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fused_gan.losses import discriminator_loss, generator_loss
from fused_gan.training.config import TrainingConfig, stream_seed


class GAN:
    """Trains a generator against a discriminator, one `step()` at a time.

    Nothing in `step()` waits for the device: losses are summed there and read by `mean_losses()`.

    Args:
        generator: maps noise (B, z_dim) to images (B, C, H, W). On its device, in its dtype.
        discriminator: maps images to logits (B, 1). Same device and dtype.
        real: all real images, (N, C, H, W), same device and dtype, in the generator's value range.
        z_dim: length of the noise.
        config: batch size, learning rate, betas, decay of the average, seed.
    """

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, real: Tensor, z_dim: int, config: TrainingConfig
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.averaged_generator = copy.deepcopy(generator).requires_grad_(False)
        self.real = real
        self.z_dim = z_dim
        self.batch_size = config.batch_size
        self.steps_done = 0

        self._generator_parameters: list[Tensor] = list(generator.parameters())
        self._averaged_parameters: list[Tensor] = list(self.averaged_generator.parameters())
        self._discriminator_parameters: list[Tensor] = list(discriminator.parameters())
        # fused: one pass over weight, gradient and both moments instead of about ten.
        self.generator_optimizer = torch.optim.Adam(
            self._generator_parameters, lr=config.lr, betas=config.betas, fused=True
        )
        self.discriminator_optimizer = torch.optim.Adam(
            self._discriminator_parameters, lr=config.lr, betas=config.betas, fused=True
        )
        self._ema_decay = config.ema_decay
        self._instance_noise = config.instance_noise
        self._steps = config.steps
        # A stream of its own: nobody else's random numbers change a run, nor a run theirs.
        self._random = torch.Generator(real.device)
        self._random.manual_seed(stream_seed(config.seed, "training"))
        self._loss_sums = torch.zeros(2, device=real.device, dtype=real.dtype)
        self._losses_summed = 0

    def step(self) -> None:
        """Update the discriminator once, then the generator once."""
        batch = self.batch_size
        fake = self.generator(self._normal((batch, self.z_dim)))
        # Drawn with replacement: the losses are expectations over the data, and this needs no epoch and no shuffling.
        chosen = torch.randint(len(self.real), (batch,), generator=self._random, device=self.real.device)
        real = self.real.index_select(0, chosen)

        # Real and fake in one batch, since no layer mixes the rows: half the calls, and products twice as tall.
        logits = self.discriminator(self._blur(torch.cat((real, fake.detach()))))
        d_loss = discriminator_loss(logits[:batch], logits[batch:])
        self.discriminator_optimizer.zero_grad()
        torch.autograd.backward(d_loss)
        self.discriminator_optimizer.step()

        with _frozen(self._discriminator_parameters):
            g_loss = generator_loss(self.discriminator(self._blur(fake)))
        self.generator_optimizer.zero_grad()
        torch.autograd.backward(g_loss)
        self.generator_optimizer.step()

        self._average()
        self._loss_sums += torch.stack((d_loss.detach(), g_loss.detach()))
        self._losses_summed += 1
        self.steps_done += 1

    def _normal(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(shape, generator=self._random, device=self.real.device, dtype=self.real.dtype)

    def _blur(self, images: Tensor) -> Tensor:
        """Add the instance noise of this step, if any is left."""
        deviation = self._instance_noise * (1 - self.steps_done / self._steps)
        return images if deviation <= 0 else images.add(self._normal(images.shape), alpha=deviation)

    def _average(self) -> None:
        # The decay starts low, as otherwise the untrained weights would linger for 1/(1 − decay) steps. By hand because
        # AveragedModel costs 66 µs a call where this costs 5, and copies its counter to the device each time.
        decay = min(self._ema_decay, (1 + self.steps_done) / (10 + self.steps_done)) if self._ema_decay else 0.0
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged_parameters, self._generator_parameters, 1 - decay)

    def mean_losses(self) -> dict[str, float]:
        """Means of both losses over the steps since the last call (at least one). Waits for the device."""
        d_loss, g_loss = (self._loss_sums / self._losses_summed).tolist()
        self._loss_sums.zero_()
        self._losses_summed = 0
        return {"discriminator_loss": d_loss, "generator_loss": g_loss}

    def is_finite(self) -> bool:
        """Whether every weight of both networks is a finite number. Waits for the device."""
        weights = self._generator_parameters + self._discriminator_parameters
        return all(bool(weight.isfinite().all()) for weight in weights)

    @torch.no_grad()
    def generate(self, noise: Tensor) -> Tensor:
        """Images (B, C, H, W) of the averaged generator from noise (B, z_dim) on any device."""
        images: Tensor = self.averaged_generator(noise.to(self.real))
        return images

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on as if it had never stopped: tensors, numbers and containers of them."""
        return {
            "generator": self.generator.state_dict(),
            "averaged_generator": self.averaged_generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "random": self._random.get_state(),
            "steps_done": self.steps_done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict()` gave, from a GAN of the same architecture on the same kind of device."""
        self.generator.load_state_dict(state["generator"])
        self.averaged_generator.load_state_dict(state["averaged_generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        self._random.set_state(state["random"])
        self.steps_done = state["steps_done"]


@contextlib.contextmanager
def _frozen(parameters: list[Tensor]) -> Iterator[None]:
    """Within it, graphs treat `parameters` as constants: no gradient of theirs is computed only to be thrown away."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
