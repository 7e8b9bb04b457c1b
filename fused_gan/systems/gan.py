"""A GAN in training: its networks and its step."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from fused_gan.base.errors import UserError, require
from fused_gan.base.seeds import stream_seed
from fused_gan.models.losses import ADVERSARIAL, clip_weights, gradient_penalty, r1_penalty
from fused_gan.systems.batches import Batches
from fused_gan.systems.config import GANTraining
from fused_gan.systems.system import System, means

SCORED = 512  # generated images, and as many real ones, that the score compares


@dataclass(frozen=True)
class Draws:
    """The random numbers of one update of the discriminator. Every step fills the same memory."""

    noise: Tensor  # (B, z_dim)
    indices: Tensor  # (B,) int64, of the real images
    instance_noise: Tensor | None  # (2, B, C, H, W), for real and fake images
    mix: Tensor | None  # (B, 1, 1, 1), the weight of the real image where the gradient is penalised


class GAN(System):
    """Trains a generator against a discriminator.

    Args:
        generator: maps noise (B, z_dim), and labels (B,) if conditional, to images (B, C, H, W).
        discriminator: maps images, and labels if conditional, to logits (B, 1).
        data: the real images, in the generator's value range.
        z_dim: length of the noise.
        config: losses, optimisation and seed.
        conditional: whether both networks take labels. The data must then have labels.
        accelerator: this process's; by default a new one.

    Raises:
        UserError: the batch cannot be shared, or a penalty does not fit the discriminator.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        data: Batches,
        z_dim: int,
        config: GANTraining,
        conditional: bool = False,
        accelerator: Accelerator | None = None,
    ) -> None:
        penalised = config.gradient_penalty or config.r1
        super().__init__(
            {"generator": generator, "discriminator": discriminator},
            {"generator": config.lr, "discriminator": config.discriminator_lr or config.lr},
            ["discriminator_loss", *["penalty"] * bool(penalised), "generator_loss"],
            data,
            config,
            accelerator,
        )
        self.generator, self.discriminator = generator, discriminator
        self.z_dim, self.conditional = z_dim, conditional
        self.objective = config
        self.loss = ADVERSARIAL[config.loss]
        # Real and fake images share a batch if no layer mixes its rows: half the calls, and products twice as tall.
        self._one_batch = not mixes_rows(discriminator)
        require(
            self._one_batch or not config.gradient_penalty,
            "gradient_penalty: it needs a discriminator without BatchNorm, which scores each image by itself",
        )
        rows = self.microbatches[0]
        if rows.stop - rows.start == 1 and not conditional:
            _require_one_row_to_do(
                generator, discriminator, torch.zeros(1, z_dim, device=data.device, dtype=data.dtype)
            )
        self._draws = [self._make_draws() for _ in range(config.n_critic)]
        self._generator_instance_noise = self._make_instance_noise(1)

    @property
    def noise_deviation(self) -> float:
        """Standard deviation of the next step's instance noise. It falls linearly over the run, to 0 at its end."""
        return self.objective.instance_noise * max(0.0, 1 - self.steps_done / self.objective.steps)

    def draw(self) -> None:
        """Draw the noise, the real images, the instance noise and the mixing weights of each update."""
        for draws in self._draws:
            draws.noise.normal_(generator=self.random)
            self.data.draw_into(draws.indices, self.random)
            self._draw_instance_noise(draws.instance_noise)
            if draws.mix is not None:
                draws.mix.uniform_(generator=self.random)
        self._draw_instance_noise(self._generator_instance_noise)

    def compute(self) -> dict[str, Tensor]:
        """Update the discriminator `n_critic` times, then the generator once; return the losses by name."""
        updates: list[dict[str, Tensor]] = []
        for draws in self._draws:
            # The generator's update scores the last fakes again, so their graph is kept. With several microbatches, the
            # generator makes them again, because several graphs at once would cost the memory that splitting saves.
            keeps_graph = draws is self._draws[-1] and len(self.microbatches) == 1
            losses, fake = self._update_discriminator(draws, keeps_graph)
            updates.append(losses)
        return means(updates) | self._update_generator(draws, fake)

    def _update_discriminator(self, draws: Draws, keeps_graph: bool) -> tuple[dict[str, Tensor], Tensor]:
        """Update D once. Return the loss, with the penalty if there is one, and the last microbatch's fakes."""
        noise, indices, instance_noise = draws.noise, draws.indices, draws.instance_noise
        self.optimizers["discriminator"].zero_grad()
        losses: list[dict[str, Tensor]] = []
        for index, rows in enumerate(self.microbatches):
            labels = self._labels(indices[rows])
            with contextlib.nullcontext() if keeps_graph else torch.no_grad():
                fake = self.wrapped["generator"](noise[rows], *labels)
            real = self.data.take(indices[rows])
            seen_real, seen_fake = real, fake.detach()
            if self._one_batch:
                both = torch.cat((seen_real, seen_fake))
                if instance_noise is not None:
                    both += instance_noise[:, rows].reshape_as(both)
                logits = self._discriminate(both, [label.repeat(2) for label in labels])
                real_logits, fake_logits = logits.chunk(2)
                seen_real, seen_fake = both.chunk(2)
            else:
                if instance_noise is not None:
                    seen_real, seen_fake = seen_real + instance_noise[0, rows], seen_fake + instance_noise[1, rows]
                real_logits, fake_logits = (self._discriminate(seen, labels) for seen in (seen_real, seen_fake))
            loss = self.loss.discriminator(real_logits, fake_logits)
            penalty = self._penalty(seen_real, seen_fake, labels, draws.mix, rows)
            self.backward("discriminator", loss if penalty is None else loss + penalty, index)
            losses.append({"discriminator_loss": loss.detach()})
            if penalty is not None:
                losses[-1]["penalty"] = penalty.detach()
        self.update("discriminator")
        if self.objective.weight_clip:
            clip_weights(self._parameters["discriminator"], self.objective.weight_clip)
        return means(losses), fake

    def _update_generator(self, draws: Draws, fake: Tensor) -> dict[str, Tensor]:
        """Update G once against the updated D, with the noise of D's last update; return the loss."""
        noise, indices, instance_noise = draws.noise, draws.indices, self._generator_instance_noise
        self.optimizers["generator"].zero_grad()
        losses: list[dict[str, Tensor]] = []
        with frozen(self._parameters["discriminator"]):
            for index, rows in enumerate(self.microbatches):
                labels = self._labels(indices[rows])
                if len(self.microbatches) > 1:
                    fake = self.wrapped["generator"](noise[rows], *labels)
                # D itself, because DDP's wrapper would wait for gradients, and frozen weights get none.
                seen = fake if instance_noise is None else fake + instance_noise[0, rows]
                loss = self.loss.generator(self.discriminator(seen, *labels))
                self.backward("generator", loss, index)
                losses.append({"generator_loss": loss.detach()})
        self.update("generator")
        return means(losses)

    def _discriminate(self, images: Tensor, labels: list[Tensor]) -> Tensor:
        logits: Tensor = self.wrapped["discriminator"](images, *labels)
        return logits

    def _labels(self, indices: Tensor) -> list[Tensor]:
        """Return the labels of the real images, which the fakes get too; an empty list if unconditional."""
        return [self.data.labels(indices)] if self.conditional else []

    def _make_draws(self) -> Draws:
        mix = self.empty(self.batch_size, 1, 1, 1) if self.objective.gradient_penalty else None
        indices = torch.empty(self.batch_size, dtype=torch.int64, device=self.data.device)
        return Draws(self.empty(self.batch_size, self.z_dim), indices, self._make_instance_noise(2), mix)

    def _make_instance_noise(self, sides: int) -> Tensor | None:
        return self.empty(sides, self.batch_size, *self.data.shape) if self.objective.instance_noise else None

    def _draw_instance_noise(self, instance_noise: Tensor | None) -> None:
        """Draw this step's instance noise, if the run uses any."""
        if instance_noise is not None:
            instance_noise.normal_(generator=self.random).mul_(self.noise_deviation)

    def _penalty(
        self, real: Tensor, fake: Tensor, labels: list[Tensor], mix: Tensor | None, rows: slice
    ) -> Tensor | None:
        """Return the weighted sum of the penalties on D's gradient, or None if there are none."""
        penalty = None
        if mix is not None:
            weight = self.objective.gradient_penalty
            penalty = weight * gradient_penalty(lambda x: self.discriminator(x, *labels), real, fake, mix[rows])
        if self.objective.r1:
            r1 = self.objective.r1 * r1_penalty(lambda x: self.discriminator(x, *labels), real)
            penalty = r1 if penalty is None else penalty + r1
        return penalty

    def scores(self) -> dict[str, float]:
        """Return `sliced_wasserstein`, always of the same noise, real images and directions."""
        random = torch.Generator().manual_seed(stream_seed(self.config.seed, "scores"))
        indices = self.data.draw(SCORED, random).to(self.data.device)
        noise = torch.randn(SCORED, self.z_dim, generator=random)
        labels = self.data.labels(indices) if self.conditional else None
        fake, real = self.generate(noise, labels), self.data.take(indices)
        return {"sliced_wasserstein": sliced_wasserstein(fake, real, random)}


def sliced_wasserstein(first: Tensor, second: Tensor, random: torch.Generator, directions: int = 256) -> float:
    """Return the sliced Wasserstein distance of two sets of images: the root mean square, over random directions in
    pixel space, of the 2-Wasserstein distance of their projections (Rabin et al., Wasserstein Barycenter and its
    Application to Texture Mixing, 2011).

    The distance needs no trained network and no download. It shows means, contrasts and lost modes, but not sharpness.

    Args:
        first, second: (N, C, H, W), the same N; same dtype and device.
        random: the generator of the directions, on the CPU.
        directions: the number of directions.

    Returns:
        At least 0, in the unit of a pixel's value; 0 for equal sets.
    """
    pixels = first[0].numel()
    onto = torch.nn.functional.normalize(torch.randn(pixels, directions, generator=random), dim=0).to(first)
    ours, theirs = (images.flatten(1).matmul(onto).sort(0).values for images in (first, second))
    return (ours - theirs).square().mean().sqrt().item()


def _require_one_row_to_do(generator: nn.Module, discriminator: nn.Module, noise: Tensor) -> None:
    """Raise `UserError` if BatchNorm has a single value per channel to take statistics from."""
    try:
        with torch.no_grad():
            copy.deepcopy(discriminator).train()(copy.deepcopy(generator).train()(noise))
    except ValueError as error:
        raise UserError(
            f"batch_size: one image at a time is too few for BatchNorm here ({error}); take a larger batch_size, fewer "
            "parts (gradient_accumulation) or larger images"
        ) from error


def mixes_rows(network: nn.Module) -> bool:
    """Whether a layer of the network makes one row's output depend on the other rows."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules())


@contextlib.contextmanager
def frozen(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Make autograd treat `parameters` as constants within the context, so that it computes no gradient for them."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
