"""A VAE in training: encoder and decoder as one network, and the step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from fused_gan.errors import require
from fused_gan.losses import bernoulli_nll, gaussian_nll, iwae_bound, kl_to_standard_normal, negative_elbo
from fused_gan.models import VAENetwork
from fused_gan.training.batches import Batches
from fused_gan.training.config import VAETraining, stream_seed
from fused_gan.training.system import System, evaluating, means

SCORED = 512  # images that the score is the mean of


class VAE(System):
    """Trains an encoder and a decoder to maximise the evidence lower bound.

    Args:
        network: both.
        data: the real images, in the decoder's value range.
        z_dim: latent dimensions.
        config: the objective, optimisation, seed.
        accelerator: of this process.

    Raises:
        UserError: the likelihood does not fit the output activation.
    """

    def __init__(
        self,
        network: VAENetwork,
        data: Batches,
        z_dim: int,
        config: VAETraining,
        accelerator: Accelerator | None = None,
    ) -> None:
        require(
            config.likelihood != "bernoulli" or network.output_activation == "sigmoid",
            f"likelihood: bernoulli needs output_activation sigmoid, got {network.output_activation}; take gaussian",
        )
        super().__init__(
            {"vae": network}, {"vae": config.lr}, ["loss", "reconstruction", "kl"], data, config, accelerator
        )
        self.objective = config
        self.z_dim = z_dim
        self._chosen = torch.empty(self.batch_size, dtype=torch.int64, device=data.device)  # images of the step
        self._noise = self.empty(self.batch_size, z_dim)

    @property
    def network(self) -> VAENetwork:
        """The network that pictures are made with."""
        network = self.maker
        assert isinstance(network, VAENetwork)
        return network

    def draw(self) -> None:
        """Images and noise."""
        self.data.draw_into(self._chosen, self.random)
        self._noise.normal_(generator=self.random)

    def compute(self) -> Sequence[Tensor]:
        """Update encoder and decoder once."""
        self.optimizers["vae"].zero_grad()
        losses: list[list[Tensor]] = []
        for part, rows in enumerate(self.parts):
            images = self.data.take(self._chosen[rows])
            decoded, mean, log_variance = self.calls["vae"](images, self._noise[rows])
            reconstruction, kl = self._terms(decoded, mean, log_variance, images)
            loss = negative_elbo(reconstruction, kl, self.objective.beta)
            self.backward("vae", loss, part)
            losses.append([loss.detach(), reconstruction.detach().mean(), kl.detach().sum(1).mean()])
        self.update("vae")
        return means(losses)

    def _terms(self, decoded: Tensor, mean: Tensor, log_variance: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """−log p(x | z), (B,), and the KL of each dimension, (B, z_dim)."""
        return self._nll(decoded, images), kl_to_standard_normal(mean, log_variance)

    def _nll(self, decoded: Tensor, images: Tensor) -> Tensor:
        if self.objective.likelihood == "bernoulli":
            return bernoulli_nll(decoded, images)
        return gaussian_nll(self.network.output(decoded), images, self.objective.deviation)

    def generate(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) decoded from latents (B, z_dim) on any device."""
        with evaluating(self.network):
            return self.network.decode(noise.to(self.data.device, self.data.dtype))

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) encoded and decoded again, through the mean of q."""
        with evaluating(self.network):
            return self.network.decode(self.code(images))

    def code(self, images: Tensor) -> Tensor:
        """μ of q(z | x) for images (B, C, H, W): (B, z_dim)."""
        with evaluating(self.network):
            return self.network.encode(images)[0]

    def kl(self, images: Tensor) -> Tensor:
        """Mean KL of each latent dimension over the images: (z_dim,)."""
        with evaluating(self.network):
            return kl_to_standard_normal(*self.network.encode(images)).mean(0)

    def terms(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of the negative ELBO: −log p(x | z), (B,), and the KL of each dimension, (B, z_dim).

        Args:
            images: (B, C, H, W) in the value range, on the device.
            noise: ε of one latent for each image, (B, z_dim).
        """
        with evaluating(self.network):
            decoded, mean, log_variance = self.network(images, noise)
            return self._terms(decoded, mean, log_variance, images)

    def scores(self) -> dict[str, float]:
        """`negative_elbo` (β = 1), of always the same images and noise."""
        random = torch.Generator().manual_seed(stream_seed(self.config.seed, "scores"))
        images = self.data.take(self.data.draw(SCORED, random).to(self.data.device))
        noise = torch.randn(SCORED, self.z_dim, generator=random).to(images)
        return {"negative_elbo": negative_elbo(*self.terms(images, noise)).item()}

    def iwae(self, images: Tensor, k: int, seed: int = 0) -> Tensor:
        """The IWAE-k bound on log p(x), in nats: (B,). Pixels are taken as they are, not binarised.

        Args:
            images: (B, C, H, W) in the value range, on the device.
            k: latents drawn for each image.
            seed: of these latents.
        """
        random = torch.Generator().manual_seed(stream_seed(seed, "iwae"))
        with evaluating(self.network):
            mean, log_variance = self.network.encode(images)
            log_weights = []
            for _ in range(k):
                noise = torch.randn(mean.shape, generator=random).to(mean)
                latents = torch.addcmul(mean, torch.exp(log_variance / 2), noise)
                nll = self._nll(self.network.decoder(latents), images)
                # log p(z) − log q(z | x); the constants of both normal densities cancel.
                log_weights.append((noise.square() + log_variance - latents.square()).sum(1) / 2 - nll)
            return iwae_bound(torch.stack(log_weights))
