"""A VAE in training: encoder and decoder as one network, and its step."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor

from fused_gan.base.errors import require
from fused_gan.base.seeds import stream_seed
from fused_gan.models import VAELikelihood, VAENetwork
from fused_gan.models.losses import kl_to_standard_normal, negative_elbo
from fused_gan.systems.batches import Batches
from fused_gan.systems.config import VAETraining
from fused_gan.systems.system import System, means

SCORED = 512  # images over which the score is averaged


class VAE(System):
    """Trains an encoder and a decoder to maximise the evidence lower bound.

    Args:
        network: encoder and decoder.
        data: the real images, in the decoder's value range.
        z_dim: latent dimensions.
        config: losses, optimisation and seed.
        accelerator: this process's; by default a new one.

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
        self._indices = torch.empty(self.batch_size, dtype=torch.int64, device=data.device)  # of the step's images
        self._noise = self.empty(self.batch_size, z_dim)

    @property
    def network(self) -> VAENetwork:
        """The network that makes pictures."""
        network = self.sampling_network
        assert isinstance(network, VAENetwork)
        return network

    def draw(self) -> None:
        """Draw the images and the noise."""
        self.data.draw_into(self._indices, self.random)
        self._noise.normal_(generator=self.random)

    def compute(self) -> dict[str, Tensor]:
        """Update encoder and decoder once; return the losses by name."""
        self.optimizers["vae"].zero_grad()
        losses: list[dict[str, Tensor]] = []
        for index, rows in enumerate(self.microbatches):
            images = self.data.take(self._indices[rows])
            decoded, mean, log_variance = self.wrapped["vae"](images, self._noise[rows])
            reconstruction = self.likelihood.nll(decoded, images)
            kl = kl_to_standard_normal(mean, log_variance)
            loss = negative_elbo(reconstruction, kl, self.objective.beta)
            self.backward("vae", loss, index)
            losses.append(
                {
                    "loss": loss.detach(),
                    "reconstruction": reconstruction.detach().mean(),
                    "kl": kl.detach().sum(1).mean(),
                }
            )
        self.update("vae")
        return means(losses)

    @property
    def likelihood(self) -> VAELikelihood:
        """The likelihood under the network that makes pictures."""
        return self.objective.likelihood_of(self.network)

    def scores(self) -> dict[str, float]:
        """Return `negative_elbo` (β = 1), always of the same images and noise."""
        random = torch.Generator().manual_seed(stream_seed(self.config.seed, "scores"))
        images = self.data.take(self.data.draw(SCORED, random).to(self.data.device))
        noise = torch.randn(SCORED, self.z_dim, generator=random).to(images)
        return {"negative_elbo": negative_elbo(*self.likelihood.elbo_terms(images, noise)).item()}
