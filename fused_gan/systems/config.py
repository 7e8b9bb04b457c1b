"""What a training run is told besides its model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from fused_gan.base.errors import require
from fused_gan.base.scores import SAMPLE_SCORES, SCORES, VAE_SCORES, directed
from fused_gan.models import VAELikelihood, VAENetwork
from fused_gan.models.losses import ADVERSARIAL

Optimizer = Literal["adam", "rmsprop"]
Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["no", "bf16", "fp16"]
OnCollapse = Literal["stop", "warn", "rollback"]
Likelihood = Literal["bernoulli", "gaussian"]
Place = Literal["auto", "device", "host"]
Graph = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class TrainingConfig:
    """Data, optimisation and what is written when: the fields that every system has.

    Raises:
        UserError: naming the field, on a value out of range.
    """

    data: str = "mnist-5k"
    """mnist-5k, fashion-mnist, digits, an .npz with an array 'images', a folder of IDX files, or a folder of pictures
    (its subfolders, if any, are the classes)."""

    image_size: int | None = None
    """Cut each image to its largest centred square and resize it to this many pixels a side. None takes the images as
    they are; they must then all be of one size."""

    channels: Literal[1, 3] | None = None
    """1 makes images grey (luma), 3 makes grey images RGB. None takes what the data has."""

    data_place: Place = "auto"
    """device keeps all images there, ready to use; host keeps them in main memory, a byte a value, and copies each
    batch over; auto takes the device if half of its free memory is enough."""

    steps: int = 6000
    """Training steps."""

    batch_size: int = 64
    """Real images in a step, over all processes together."""

    gradient_accumulation: int = 1
    """Split each batch into this many parts that go through the networks one after another, to save memory. The
    gradient is that of the whole batch (but BatchNorm sees the parts)."""

    optimizer: Optimizer = "adam"
    """adam or rmsprop."""

    lr: float = 2e-4
    """The optimizer's step size."""

    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay rates. 0.5 instead of the usual 0.9, since momentum makes adversarial training oscillate."""

    lr_schedule: Schedule = "constant"
    """How lr goes on after the warm-up: constant, or linear or cosine down to 0 at the last step."""

    warmup_steps: int = 0
    """Steps in which lr grows linearly from 0."""

    gradient_clip: float = 0.0
    """Scale the gradients of a network down to this norm if it is exceeded. 0 never does."""

    ema_decay: float = 0.999
    """Samples come from an exponential moving average of the weights, which is steadier than the weights of any one
    step. 0 takes the weights as they are."""

    mixed_precision: Precision = "no"
    """bf16 or fp16: products in this type, weights and losses in float32. fp16 needs a GPU."""

    seed: int = 0
    """Weights, noise and the choice of real images follow from it."""

    device: str = "auto"
    """auto (CUDA where it works, else the CPU; the first line says which), cpu, cuda or cuda:N."""

    cuda_graph: Graph = "auto"
    """Record the step on a CUDA device once and replay it, without the cost of launching its kernels one by one: auto
    where that can be done (the first line says so, or why not), on or off. It changes no number."""

    dtype: Literal["float32", "float64"] = "float32"
    """Of weights, data and arithmetic."""

    threads: int | None = None
    """CPU threads of torch; by default as many as torch takes."""

    out: Path | None = None
    """Run folder, new or empty; None makes runs/PRESET-DATE-TIME."""

    log_interval: int = 50
    """Steps between two lines of metrics.jsonl."""

    sample_interval: int = 1000
    """Steps between two sample grids; 0 draws only the last."""

    checkpoint_interval: int = 1000
    """Steps between two checkpoints; 0 writes only the last."""

    keep_checkpoints: int = 3
    """How many of the latest checkpoints stay; the best one stays besides."""

    best_metric: str = ""
    """Logged number by which the best checkpoint is chosen."""

    evaluate_every: int = 0
    """Steps between two evaluations as fused-gan evaluate makes them, which go into the log with the losses; 0 makes
    none. A best_metric of theirs is computed at each checkpoint anyway."""

    evaluate_samples: int = 2000
    """Images, generated and real, in such an evaluation; the data needs twice as many."""

    extractor: str | None = None
    """In whose features images are compared in an evaluation: mnist-5k or fashion-mnist, which ship, or a file that
    fused-gan extractor wrote. None takes the one that ships for the data."""

    tensorboard: bool = True
    """Write the numbers and grids for TensorBoard, too."""

    health_interval: int = 500
    """Steps between two looks of the health monitor; 0 never looks."""

    on_collapse: OnCollapse = "warn"
    """What to do when the monitor says that training has failed: stop it, warn and go on, or roll back to the last
    sound checkpoint and go on with other noise (three times at most)."""

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size", "gradient_accumulation", "log_interval", "keep_checkpoints")
        for name in (*counts, "evaluate_samples"):
            value = getattr(self, name)
            require(value > 0, f"{name}: expected a positive integer, got {value!r}")
        for name in ("sample_interval", "checkpoint_interval", "health_interval", "warmup_steps", "evaluate_every"):
            value = getattr(self, name)
            require(value >= 0, f"{name}: expected 0 or a positive integer, got {value!r}")
        for name in ("threads", "image_size"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name}: expected a positive integer, got {value!r}")
        require(0 < self.lr < math.inf, f"lr: expected a finite number above 0, got {self.lr!r}")
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"betas: expected two numbers in [0, 1), got {self.betas!r}",
        )
        self._require_not_negative("gradient_clip")
        require(0 <= self.ema_decay < 1, f"ema_decay: expected a number in [0, 1), got {self.ema_decay!r}")
        require(self.seed >= 0, f"seed: expected 0 or a positive integer, got {self.seed!r}")
        self._require_one_of("channels", (None, 1, 3))
        self._require_one_of("data_place", get_args(Place))
        self._require_one_of("cuda_graph", get_args(Graph))
        self._require_one_of("dtype", ("float32", "float64"))
        self._require_one_of("optimizer", get_args(Optimizer))
        self._require_one_of("lr_schedule", get_args(Schedule))
        self._require_one_of("mixed_precision", get_args(Precision))
        self._require_one_of("on_collapse", get_args(OnCollapse))
        require(
            self.mixed_precision == "no" or self.dtype == "float32",
            f"mixed_precision: {self.mixed_precision} needs dtype float32, got {self.dtype}",
        )

    @property
    def evaluates(self) -> bool:
        """Whether the run is evaluated as it goes."""
        return self.evaluate_every > 0 or self.best_metric in SCORES

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as torch's object."""
        return torch.float64 if self.dtype == "float64" else torch.float32

    def _require_not_negative(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            require(0 <= value < math.inf, f"{name}: expected a finite number of at least 0, got {value!r}")

    def _require_one_of(self, name: str, allowed: Iterable[object]) -> None:
        value, allowed = getattr(self, name), tuple(allowed)
        require(value in allowed, f"{name}: expected one of {', '.join(map(str, allowed))}, got {value!r}")


# What a run may be given anew when it goes on: where it computes, and what it writes when. That is no part of the
# experiment: the same steps lead to the same weights (on another device or number of threads, but for rounding).
RUNTIME = (
    "device", "threads", "cuda_graph", "data_place", "log_interval", "sample_interval", "checkpoint_interval",
    "keep_checkpoints", "evaluate_every", "tensorboard",
)  # fmt: skip


@dataclass(frozen=True)
class GANTraining(TrainingConfig):
    """How a GAN is trained. One step updates the discriminator `n_critic` times and then the generator once."""

    loss: str = "non_saturating"
    """non_saturating, minimax, least_squares, hinge or wasserstein."""

    n_critic: int = 1
    """Updates of the discriminator for one of the generator."""

    discriminator_lr: float | None = None
    """The discriminator's step size; None takes lr."""

    instance_noise: float = 1.0
    """Standard deviation of the Gaussian noise added to every image that the discriminator sees, real or generated,
    falling linearly to 0 over the run. It keeps both distributions overlapping, so that the discriminator cannot win
    early and the generator does not collapse (Sønderby et al., Amortised MAP Inference, 2017). 0 adds none."""

    gradient_penalty: float = 0.0
    """λ of the penalty on the norm of D's gradient between real and generated images (WGAN-GP); 10 in the paper."""

    r1: float = 0.0
    """γ of the penalty on the norm of D's gradient at real images (R1); 10 in the paper."""

    weight_clip: float = 0.0
    """After each update, clamp the discriminator's weights to this size (WGAN; 0.01 in the paper). 0 never does."""

    best_metric: str = "sliced_wasserstein"
    """Logged number by which the best checkpoint is chosen: sliced_wasserstein (the distance of 512 samples from 512
    real images, in pixels), discriminator_loss or generator_loss; or one of an evaluation: fd, classifier_score, kid,
    precision, recall, density or coverage."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_critic > 0, f"n_critic: expected a positive integer, got {self.n_critic!r}")
        self._require_not_negative("instance_noise", "gradient_penalty", "r1", "weight_clip")
        self._require_one_of("loss", ADVERSARIAL)
        self._require_one_of(
            "best_metric", ("sliced_wasserstein", "discriminator_loss", "generator_loss", *SAMPLE_SCORES)
        )
        require(
            self.discriminator_lr is None or 0 < self.discriminator_lr < math.inf,
            f"discriminator_lr: expected a finite number above 0, got {self.discriminator_lr!r}",
        )


@dataclass(frozen=True)
class VAETraining(TrainingConfig):
    """How a VAE is trained. One step updates encoder and decoder once."""

    lr: float = 1e-3
    """The optimizer's step size."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay rates."""

    ema_decay: float = 0.0
    """Above 0, samples and reconstructions come from an exponential moving average of the weights."""

    beta: float = 1.0
    """Factor of the KL divergence. 1 is the evidence lower bound; above it, latent dimensions disentangle and pictures
    blur (β-VAE)."""

    likelihood: Likelihood = "bernoulli"
    """Of a pixel: bernoulli (for output_activation sigmoid alone) or gaussian."""

    deviation: float = 0.3
    """Standard deviation of the gaussian likelihood, in the units of the scaled images."""

    best_metric: str = "negative_elbo"
    """Logged number by which the best checkpoint is chosen: negative_elbo (of 512 images, with always the same noise)
    or loss; or one of an evaluation: elbo, iwae, reconstruction_error, mse, psnr, ssim, active_units or those of a
    GAN."""

    def likelihood_of(self, network: VAENetwork) -> VAELikelihood:
        """Return the likelihood that this configuration trains the network with."""
        return VAELikelihood(network, self.likelihood, self.deviation)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_not_negative("beta")
        require(0 < self.deviation < math.inf, f"deviation: expected a finite number above 0, got {self.deviation!r}")
        self._require_one_of("likelihood", get_args(Likelihood))
        self._require_one_of("best_metric", ("negative_elbo", "loss", *directed(VAE_SCORES), *SAMPLE_SCORES))
