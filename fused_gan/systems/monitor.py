"""The health monitor examines a system in training at intervals, and says in words when the training fails.

A look reads the gradients that the last step left, and sends a fixed batch through the networks. It changes no weight,
no statistic and no random state, so a run is the same with and without the monitor.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fused_gan.base.seeds import stream_seed
from fused_gan.base.torch_state import measuring
from fused_gan.models.inference import evaluating
from fused_gan.models.losses import kl_to_standard_normal
from fused_gan.ops.activations import ACTIVATION_MODULES
from fused_gan.systems.gan import GAN
from fused_gan.systems.vae import VAE

PROBED = 128  # real images, and as many generated ones, in a look

# Above or below these a look is suspicious. Each is far outside what the presets show while they learn.
VANISHING = 1e-4  # gradient of a network's weakest layer over that of its strongest, root mean squares
EXPLODING = 100.0  # gradient norm of a network over the median of its earlier looks
UNUSED = 0.8  # share of a layer's units that are dead or saturated
WON = 0.99  # D's accuracy, on real and on generated images
COLLAPSED = 0.1  # diversity of the samples over that of the data
RISING = 1.1  # this look's diversity over the last look's; above it, samples are becoming diverse
ACTIVE_KL = 0.01  # in nats; a latent dimension above it carries information

# How many looks in a row must be suspicious, because training may pass through a suspicious state and recover.
PATIENCE = {"vanishing": 3, "exploding": 1, "dead units": 2, "D won": 3, "collapsed": 3, "posterior collapse": 3}
HINTS = {
    "vanishing": "take relu or leaky_relu in hidden layers, fewer layers, or the non_saturating loss",
    "exploding": "lower lr, or set gradient_clip",
    "dead units": "take leaky_relu, or lower lr",
    "D won": "raise instance_noise, lower discriminator_lr, or take wgan-gp",
    "collapsed": "raise instance_noise, lower lr, or take wgan-gp",
    "posterior collapse": "lower beta, or take fewer latent dimensions",
}
MERE_WARNINGS = ("dead units",)  # a network with them may still learn


@dataclass(frozen=True)
class Verdict:
    """A failure of training: its name in `HINTS`, the numbers that show it, and a hint at what may help."""

    name: str
    evidence: str

    @property
    def hint(self) -> str:
        return HINTS[self.name]

    @property
    def fatal(self) -> bool:
        """Whether training has failed, and is not merely worse than it could be."""
        return self.name not in MERE_WARNINGS

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}; {self.hint}"


@dataclass(frozen=True)
class Look:
    """The findings of one look. Layers are named `network.layer`. A share is NaN if its layer's outputs are not finite.

    Attributes:
        step: the number of steps done.
        gradient_norms: root mean square of a layer's weight gradient.
        dead: share of a ReLU layer's units that are 0 for the whole batch.
        saturated: share of a hidden layer's outputs where the activation is flat.
        network_norms: norm of all gradients of a network.
        accuracy_real: share of real images that D takes for real.
        accuracy_fake: share of generated images that D takes for generated.
        diversity: mean distance of two samples.
        data_diversity: mean distance of two real images.
        kl: KL divergence of each latent dimension of a VAE, in nats.
        negative: share of a LeakyReLU layer's units that are negative for the whole batch (under ReLU: dead).
    """

    step: int
    gradient_norms: dict[str, float]
    dead: dict[str, float]
    saturated: dict[str, float]
    network_norms: dict[str, float]
    accuracy_real: float | None = None
    accuracy_fake: float | None = None
    diversity: float | None = None
    data_diversity: float | None = None
    kl: list[float] = field(default_factory=list)
    negative: dict[str, float] = field(default_factory=dict)


class Monitor:
    """Looks at one system, and remembers its earlier looks.

    Args:
        system: a GAN or a VAE. The looks use a few images of its data.
    """

    @measuring()
    def __init__(self, system: GAN | VAE) -> None:
        self._system = system
        random = torch.Generator().manual_seed(stream_seed(system.config.seed, "health"))
        device = system.data.device
        indices = system.data.draw(PROBED, random).to(device)
        self._real = system.data.take(indices)
        self._noise = torch.randn(PROBED, system.z_dim, generator=random).to(self._real)
        self._instance_noise = torch.randn(2, *self._real.shape, generator=random).to(self._real)
        self._labels = [system.data.labels(indices)] if system.conditional else []
        self._data_diversity = diversity(self._real)
        self._suspicions: dict[str, int] = {}
        self._norms: dict[str, list[float]] = {}
        self._diversity = 0.0

    @measuring()
    def look(self) -> tuple[Look, list[Verdict]]:
        """Look once; return the findings and the verdicts. Waits for the device."""
        look = self._look_at_gan(self._system) if isinstance(self._system, GAN) else self._look_at_vae(self._system)
        return look, self._judge(look)

    def state_dict(self) -> dict[str, Any]:
        """Return the memory of earlier looks."""
        return {
            "suspicions": dict(self._suspicions),
            "norms": {name: list(norms) for name, norms in self._norms.items()},
            "diversity": self._diversity,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a memory that `state_dict()` returned."""
        self._suspicions = dict(state["suspicions"])
        self._norms = {name: list(norms) for name, norms in state["norms"].items()}
        self._diversity = state["diversity"]

    def _look_at_gan(self, gan: GAN) -> Look:
        units = Units()
        with evaluating(gan.generator), units.watched("generator", gan.generator, output_is_last=True):
            fake = gan.generator(self._noise, *self._labels)
        with evaluating(gan.discriminator), units.watched("discriminator", gan.discriminator):
            real_noise, fake_noise = gan.noise_deviation * self._instance_noise
            images = torch.cat((self._real + real_noise, fake + fake_noise))
            logits = gan.discriminator(images, *[labels.repeat(2) for labels in self._labels])
        real_logits, fake_logits = logits.chunk(2)
        layers, networks = _gradients(gan.networks)
        return Look(
            step=gan.steps_done,
            gradient_norms=layers,
            dead=units.dead,
            saturated=units.saturated,
            negative=units.negative,
            network_norms=networks,
            accuracy_real=(real_logits > 0).float().mean().item() if gan.loss.classifies else None,
            accuracy_fake=(fake_logits <= 0).float().mean().item() if gan.loss.classifies else None,
            diversity=diversity(fake),
            data_diversity=self._data_diversity,
        )

    def _look_at_vae(self, vae: VAE) -> Look:
        units = Units()
        network = vae.networks["vae"]
        with evaluating(network), units.watched("vae", network):
            network(self._real, self._noise)
        with evaluating(vae.network):
            kl = kl_to_standard_normal(*vae.network.encode(self._real))
        layers, networks = _gradients(vae.networks)
        return Look(
            step=vae.steps_done,
            gradient_norms=layers,
            dead=units.dead,
            saturated=units.saturated,
            negative=units.negative,
            network_norms=networks,
            diversity=diversity(vae.generate(self._noise)),
            data_diversity=self._data_diversity,
            kl=kl.mean(0).tolist(),
        )

    def _judge(self, look: Look) -> list[Verdict]:
        found = {verdict.name: verdict for verdict in self._suspicious(look)}
        self._suspicions = {name: self._suspicions.get(name, 0) + 1 for name in found}
        for name, norm in look.network_norms.items():
            self._norms.setdefault(name, []).append(norm)
        return [verdict for name, verdict in found.items() if self._suspicions[name] >= PATIENCE[name]]

    def _suspicious(self, look: Look) -> Iterator[Verdict]:
        """Give the verdicts that this look alone suggests, each with its strongest evidence."""
        yield from _vanishing(look)
        for name, norm in look.network_norms.items():
            before = [earlier for earlier in self._norms.get(name, []) if math.isfinite(earlier)][-20:]
            usual = statistics.median(before) if len(before) >= 3 else math.inf
            if not math.isfinite(norm) or norm > EXPLODING * usual:
                compared = f", usually {usual:.3g}" if usual < math.inf else ""
                yield Verdict("exploding", f"the gradient of {name} has norm {norm:.3g}{compared}")
        for what, shares in (("saturated", look.saturated), ("dead", look.dead)):
            unused = [name for name in shares if shares[name] >= UNUSED]
            if unused:
                layer = max(unused, key=shares.__getitem__)
                yield Verdict("dead units", f"{shares[layer]:.0%} of {layer} is {what}")
        if look.accuracy_real is not None and look.accuracy_fake is not None:
            real, fake = look.accuracy_real, look.accuracy_fake
            if min(real, fake) >= WON:
                yield Verdict("D won", f"D tells {real:.0%} of the real and {fake:.0%} of the generated images")
        if look.diversity is not None and look.data_diversity and not look.kl:
            ratio = look.diversity / look.data_diversity
            earlier, self._diversity = self._diversity, look.diversity
            if not ratio >= COLLAPSED and not look.diversity > RISING * earlier:
                yield Verdict("collapsed", f"samples differ {ratio:.1%} as much as real images do")
        if look.kl and max(look.kl) < ACTIVE_KL:
            yield Verdict(
                "posterior collapse",
                f"none of {len(look.kl)} latent dimensions carries {ACTIVE_KL} nats ({max(look.kl):.2g})",
            )


def _vanishing(look: Look) -> Iterator[Verdict]:
    for network in look.network_norms:
        layers = {name: norm for name, norm in look.gradient_norms.items() if name.startswith(f"{network}.")}
        if not all(map(math.isfinite, layers.values())):
            continue  # another failure: beside an infinite gradient, every other gradient is small
        weakest, strongest = min(layers, key=layers.__getitem__), max(layers, key=layers.__getitem__)
        if layers[weakest] <= VANISHING * layers[strongest]:
            evidence = (
                f"the gradient of {weakest} is {layers[weakest]:.2g}, that of {strongest} {layers[strongest]:.2g}"
            )
            yield Verdict("vanishing", evidence)
            return


def diversity(images: Tensor) -> float:
    """Return the mean Euclidean distance of two different images of (N, C, H, W), N ≥ 2."""
    flat = images.flatten(1).float()
    count = len(flat)
    return torch.cdist(flat, flat).sum().item() / (count * (count - 1))


def _gradients(networks: dict[str, nn.Module]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the root mean square of each weight's gradient, by layer, and the norm of all gradients, by network."""
    named = [
        (network, name.removesuffix(".weight"), parameter.grad)
        for network, module in networks.items()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None and parameter.dim() > 1
    ]
    norms = torch.stack(torch._foreach_norm([gradient for _, _, gradient in named])).tolist()
    layers, squares = {}, dict.fromkeys(networks, 0.0)
    for (network, name, gradient), norm in zip(named, norms, strict=True):
        layers[f"{network}.{name}"] = norm / gradient.numel() ** 0.5
        squares[network] += norm**2
    return layers, {network: square**0.5 for network, square in squares.items()}


# output → whether the activation is flat there. Flat means that its derivative is below a hundredth of its maximum.
_FLAT: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda y: y.square() > 0.99,
    "sigmoid": lambda y: y * (1 - y) < 0.0025,
}


class Units:
    """Shares of dead, negative and saturated units of each hidden layer, gathered while networks run."""

    def __init__(self) -> None:
        self._shares: dict[str, tuple[str, Tensor]] = {}

    @property
    def dead(self) -> dict[str, float]:
        return self._of("relu")

    @property
    def negative(self) -> dict[str, float]:
        return self._of("leaky_relu")

    @property
    def saturated(self) -> dict[str, float]:
        return self._of(*_FLAT)

    def _of(self, *activations: str) -> dict[str, float]:
        return {name: share.item() for name, (activation, share) in self._shares.items() if activation in activations}

    @contextmanager
    def watched(self, prefix: str, network: nn.Module, output_is_last: bool = False) -> Iterator[None]:
        """Record the calls of a network within the context.

        Args:
            prefix: the first part of the layers' names.
            network: the network. Its activation modules are watched.
            output_is_last: whether the last activation is the output. An output may be saturated, so it is not watched.
        """
        layers = [(name, module, kind) for name, module in network.named_modules() if (kind := _activation(module))]
        with ExitStack() as hooks:
            for name, module, activation in layers[:-1] if output_is_last else layers:
                hooks.callback(module.register_forward_hook(self._noting(f"{prefix}.{name}", activation)).remove)
            yield

    def _noting(self, name: str, activation: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if activation in _FLAT:
                share = _FLAT[activation](output).float().mean()
            else:
                units = output.transpose(0, 1).flatten(1)  # a unit is a feature, or a channel
                share = (units <= 0).all(1).float().mean()
            self._shares[name] = activation, torch.where(output.isfinite().all(), share, math.nan)

        return note


def _activation(module: nn.Module) -> str | None:
    """Return the activation that a module applies, or None if its units cannot be dead, negative or saturated."""
    names = ACTIVATION_MODULES.get(type(module), ())
    return next((name for name in names if name in ("relu", "leaky_relu", *_FLAT)), None)


def as_json(look: Look, verdicts: list[Verdict]) -> dict[str, Any]:
    """Return a look and its verdicts as a line of health.jsonl holds them."""
    fields = [{"name": verdict.name, "evidence": verdict.evidence, "hint": verdict.hint} for verdict in verdicts]
    return asdict(look) | {"verdicts": fields}
