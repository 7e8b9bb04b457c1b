"""The configuration of a training run, apart from its model."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from fused_gan.base.errors import require
from fused_gan.base.field_types import settle
from fused_gan.base.scores import NO_EXTRACTOR, SAMPLE_SCORES, SCORES, VAE_SCORES, directed
from fused_gan.base.seeds import require_seed
from fused_gan.models import VAELikelihood, VAENetwork
from fused_gan.models.losses import ADVERSARIAL

Optimizer = Literal["adam", "rmsprop"]
Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["no", "bf16", "fp16"]
OnCollapse = Literal["stop", "warn", "rollback"]
Likelihood = Literal["bernoulli", "gaussian"]
Place = Literal["auto", "device", "host"]
Graph = Literal["auto", "on", "off"]
MOST_THREADS = 1024  # far more than pay anywhere, and few enough that a process gets them or a plain error


@dataclass(frozen=True)
class TrainingConfig:
    """The fields that every system has: data, optimisation, and what is written when.

    Raises:
        UserError: a value is out of range; the message names the field.
    """

    data: str = "mnist-5k"
    """mnist-5k, fashion-mnist, digits, an .npz with an array 'images', a folder of IDX files, a folder of pictures (its
    subfolders, if any, are the classes), or another format in docs/train.md. fused-gan data shows what would be read.
    """

    image_size: int | None = None
    """Cut each image to its largest centred square, and resize it to this many pixels per side. None takes the images
    as they are; all of them must then have the same size."""

    channels: Literal[1, 3] | None = None
    """1 makes images grey (luma), 3 makes grey images RGB. None keeps the channels of the data."""

    data_place: Place = "auto"
    """device keeps all images on the training device, ready to use. host keeps them in main memory, one byte per
    value, and copies each batch to the device. auto takes the device if half of its free memory is enough."""

    steps: int = 6000
    """Training steps."""

    batch_size: int = 64
    """Real images per step, over all processes together."""

    gradient_accumulation: int = 1
    """Split each batch into this many microbatches, which go through the networks one after another, to save memory.
    The gradient is that of the whole batch, but BatchNorm takes its statistics from each microbatch."""

    optimizer: Optimizer = "adam"
    """adam or rmsprop."""

    lr: float = 2e-4
    """The optimizer's step size."""

    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay rates. 0.5 instead of the usual 0.9, because momentum makes adversarial training oscillate."""

    lr_schedule: Schedule = "constant"
    """How lr changes after the warm-up: constant, or linear or cosine down to 0 at the last step."""

    warmup_steps: int = 0
    """Steps over which lr grows linearly from 0."""

    gradient_clip: float = 0.0
    """Scale the gradients of a network down to this norm if they exceed it. 0 never scales them."""

    ema_decay: float = 0.999
    """Decay of an exponential moving average of the weights. Samples come from this average, which is steadier than the
    weights of any one step. 0 takes the weights as they are."""

    mixed_precision: Precision = "no"
    """bf16 or fp16 computes products in this type, and keeps weights and losses in float32. no computes everything in
    dtype. fp16 needs a GPU."""

    seed: int = 0
    """Weights, noise and the choice of real images follow from this number."""

    device: str = "auto"
    """auto (CUDA where it works, else the CPU; the first line of output says which), cpu, cuda or cuda:N."""

    cuda_graph: Graph = "auto"
    """Record the step once as a CUDA graph and replay the recording, which saves launching the kernels one by one. auto
    records where that is possible (the first line of output says so, or why not), on fails where it is not, off never
    records. The results are the same."""

    dtype: Literal["float32", "float64"] = "float32"
    """Type of weights, data and arithmetic."""

    threads: int | None = None
    """CPU threads of torch. None keeps torch's own number."""

    out: Path | None = None
    """Run folder, new or empty. None makes runs/PRESET-DATE-TIME."""

    log_interval: int = 50
    """Steps between two lines of metrics.jsonl."""

    sample_interval: int = 1000
    """Steps between two sample grids. 0 draws only the last one."""

    checkpoint_interval: int = 1000
    """Steps between two checkpoints. 0 writes only the last one."""

    keep_checkpoints: int = 3
    """How many of the latest checkpoints stay. The best one stays as well."""

    best_metric: str = ""
    """Logged number by which the best checkpoint is chosen."""

    evaluate_every: int = 0
    """Steps between two evaluations like those of fused-gan evaluate, which go into the log with the losses. 0 makes
    none. If best_metric is a score of the evaluation, each checkpoint is evaluated anyway."""

    evaluate_samples: int = 2000
    """Generated images in an evaluation during training, compared with as many real ones. The data needs twice as many
    images."""

    extractor: str | None = None
    """The classifier in whose features an evaluation during training compares images: mnist-5k or fashion-mnist, which
    come with the package, or a file written by fused-gan extractor. None takes the package's own for the data. none
    leaves its scores out, for those that a VAE has without it."""

    tensorboard: bool = True
    """Also write the numbers and grids for TensorBoard."""

    health_interval: int = 500
    """Steps between two looks of the health monitor. 0 never looks."""

    on_collapse: OnCollapse = "warn"
    """What to do when the health monitor says that training has failed. stop ends the run, and warn only prints a
    message. rollback returns to the last checkpoint at which the monitor suspected nothing, and goes on with other
    noise, at most three times per run."""

    def __post_init__(self) -> None:
        settle(self)
        for name in ("data", "extractor", "out"):  # from a file or from Python, no shell has expanded the ~ of a path
            value = getattr(self, name)
            if isinstance(value, (str, Path)) and str(value).startswith("~"):
                object.__setattr__(self, name, type(value)(os.path.expanduser(value)))
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
        require(
            self.threads is None or self.threads <= MOST_THREADS,
            f"threads: expected at most {MOST_THREADS:,}, got {self.threads!r}",
        )
        require(0 < self.lr < math.inf, f"lr: expected a finite number above 0, got {self.lr!r}")
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"betas: expected two numbers in [0, 1), got {self.betas!r}",
        )
        self._require_not_negative("gradient_clip")
        require(0 <= self.ema_decay < 1, f"ema_decay: expected a number in [0, 1), got {self.ema_decay!r}")
        require_seed(self.seed)
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
        require(
            self.extractor != NO_EXTRACTOR or self.best_metric not in SAMPLE_SCORES,
            f"best_metric: {self.best_metric} is computed with an extractor, got extractor none",
        )

    @property
    def evaluates(self) -> bool:
        """Whether the run is evaluated during training."""
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


# The fields that may change when a run goes on: where to compute, and how often to write what. They are not part of the
# experiment, because the same steps lead to the same weights (up to rounding, on another device or number of threads).
RUNTIME = (
    "device", "threads", "cuda_graph", "data_place", "log_interval", "sample_interval", "checkpoint_interval",
    "keep_checkpoints", "evaluate_every", "tensorboard",
)  # fmt: skip


@dataclass(frozen=True)
class GANTraining(TrainingConfig):
    """How a GAN is trained. One step updates the discriminator `n_critic` times and then the generator once."""

    loss: str = "non_saturating"
    """Adversarial loss: non_saturating, minimax, least_squares, hinge or wasserstein."""

    n_critic: int = 1
    """Updates of the discriminator per update of the generator."""

    discriminator_lr: float | None = None
    """The discriminator's step size; None takes lr."""

    instance_noise: float = 1.0
    """Standard deviation of the Gaussian noise added to every image that the discriminator sees, real or generated,
    falling linearly to 0 over the run. The noise keeps both distributions overlapping, so that the discriminator cannot
    win early and the generator does not collapse (Sønderby et al., Amortised MAP Inference, 2017). 0 adds none."""

    gradient_penalty: float = 0.0
    """λ of the penalty on the norm of the discriminator's gradient between real and generated images (WGAN-GP); 10 in
    the paper."""

    r1: float = 0.0
    """γ of the penalty on the norm of the discriminator's gradient at real images (R1); 10 in the paper."""

    weight_clip: float = 0.0
    """After each update of the discriminator, clamp its weights to plus or minus this value (WGAN; 0.01 in the paper).
    0 never clamps them."""

    best_metric: str = "sliced_wasserstein"
    """Logged number by which the best checkpoint is chosen. Training logs sliced_wasserstein (the distance of 512
    samples from 512 real images, in the unit of a pixel's value), discriminator_loss and generator_loss. The evaluation
    logs fd, classifier_score, kid, precision, recall, density and coverage."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_critic > 0, f"n_critic: expected a positive integer, got {self.n_critic!r}")
        self._require_not_negative("instance_noise", "gradient_penalty", "r1", "weight_clip")
        require(
            self.extractor != NO_EXTRACTOR or not self.evaluate_every,
            f"evaluate_every: an evaluation of a GAN during training needs an extractor for a score at all, got "
            f"{self.evaluate_every} with extractor none",
        )
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
    """Decay of an exponential moving average of the weights. Above 0, samples and reconstructions come from this
    average."""

    beta: float = 1.0
    """Factor of the KL divergence. 1 gives the evidence lower bound. Above 1, latent dimensions disentangle and
    pictures blur (β-VAE)."""

    likelihood: Likelihood = "bernoulli"
    """Likelihood of a pixel: bernoulli (only with output_activation sigmoid) or gaussian."""

    deviation: float = 0.3
    """Standard deviation of the gaussian likelihood, in the unit of the scaled images."""

    best_metric: str = "negative_elbo"
    """Logged number by which the best checkpoint is chosen. Training logs negative_elbo (mean over 512 images, always
    with the same noise) and loss. The evaluation logs elbo, iwae, reconstruction_error, mse, psnr, ssim, active_units
    and the scores of a GAN."""

    def likelihood_of(self, network: VAENetwork) -> VAELikelihood:
        """Return the likelihood that this configuration trains the network with."""
        return VAELikelihood(network, self.likelihood, self.deviation)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_not_negative("beta")
        require(0 < self.deviation < math.inf, f"deviation: expected a finite number above 0, got {self.deviation!r}")
        self._require_one_of("likelihood", get_args(Likelihood))
        self._require_one_of("best_metric", ("negative_elbo", "loss", *directed(VAE_SCORES), *SAMPLE_SCORES))
