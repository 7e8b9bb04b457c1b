"""Every system takes any image size, keeps the promised shapes and ranges, and listens to each of its options."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fused_gan import fusion_report
from fused_gan.base.errors import UserError
from fused_gan.data import ImageData
from fused_gan.models import CGANConfig, ConvVAEConfig, DCGANConfig, MLPVAEConfig, VAENetwork, WGANConfig
from fused_gan.models.layers import CropTo, PadTo
from fused_gan.ops.activations import ACTIVATIONS
from fused_gan.systems.build import build_sampling_network
from fused_gan.training import PRESETS, build_system, configure

SHAPES = [(1, 28, 28), (3, 8, 8), (3, 17, 9), (1, 1, 1), (3, 40, 24)]
SMALL: dict[str, Any] = {
    "generator_widths": (16, 24), "discriminator_widths": (24, 16), "widths": (24, 16), "width": 4, "z_dim": 6,
}  # fmt: skip


def small(preset: str, **changes: Any) -> Any:
    """The preset with small networks."""
    names = {field.name for field in dataclasses.fields(PRESETS[preset].model)}
    return configure(preset, **{name: value for name, value in SMALL.items() if name in names} | changes)


def images_of(shape: tuple[int, int, int], count: int = 20) -> ImageData:
    return ImageData(torch.randint(0, 256, (count, *shape), dtype=torch.uint8), torch.arange(count) % 3)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_at_every_size(preset: str, shape: tuple[int, int, int]) -> None:
    # In a layer this small, every ReLU may be dead by chance.
    found = small(preset, steps=3, batch_size=4, activation="leaky_relu")
    system = build_system(found.model, found.training, images_of(shape), torch.device("cpu"))
    before = [weight.clone() for weight in system.networks[system._sampling].parameters()]
    for _ in range(2):
        system.step()
    assert all(torch.isfinite(torch.tensor(list(system.mean_losses().values()))))
    labels = torch.tensor([0, 1, 2, 0, 1]) if preset == "cgan" else None
    made = system.generate(torch.randn(5, 6), labels)
    low, high = found.model.value_range
    assert made.shape == (5, *shape)
    assert low <= made.min().item() <= made.max().item() <= high
    after = system.networks[system._sampling].parameters()
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True)), "every weight learns"


def test_the_presets_have_the_published_settings() -> None:
    def widths(network: nn.Module) -> list[int]:
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        return [layers[0].in_features, *(layer.out_features for layer in layers)]

    shape = (1, 28, 28)
    mlp, leaky, vae = (PRESETS[name].model for name in ("mlp-gan", "leaky-gan", "mlp-vae"))
    assert widths(mlp.build_generator(shape)) == [100, 256, 512, 1024, 784]
    assert widths(mlp.build_discriminator(shape)) == [784, 1024, 512, 256, 1]
    assert widths(leaky.build_generator(shape)) == [100, 1024, 1024, 784]
    assert widths(leaky.build_discriminator(shape)) == [784, 1024, 1024, 1]
    activations = list(leaky.build_generator(shape))[1:6:2]
    assert list(map(type, activations)) == [nn.LeakyReLU, nn.LeakyReLU, nn.Sigmoid]
    assert [activation.negative_slope for activation in activations[:2]] == [0.2, 0.2]
    network = vae.build(shape)
    assert widths(network.encoder) == [784, 128, 64, 32, 2 * vae.z_dim]
    assert widths(network.decoder) == [vae.z_dim, 32, 64, 128, 784]
    assert (PRESETS["wgan"].training.n_critic, PRESETS["wgan"].training.weight_clip) == (5, 0.01)
    assert (PRESETS["wgan-gp"].training.gradient_penalty, PRESETS["wgan-gp"].training.betas) == (10.0, (0.0, 0.9))


def test_a_dcgan_has_the_papers_shape() -> None:
    generator, discriminator = (
        build((3, 64, 64)) for build in (DCGANConfig().build_generator, DCGANConfig().build_discriminator)
    )
    sizes: list[tuple[int, ...]] = []
    for network in (generator, discriminator):
        for layer in network:
            if isinstance(layer, (nn.Unflatten, nn.Conv2d, nn.ConvTranspose2d)):
                layer.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))
    discriminator(generator(torch.randn(2, 100)))
    assert sizes == [
        (256, 8, 8), (128, 16, 16), (64, 32, 32), (3, 64, 64), (64, 32, 32), (128, 16, 16), (256, 8, 8),
    ]  # fmt: skip
    weights = torch.cat([w.flatten() for w in generator.parameters() if w.dim() > 1])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    norms = [layer for layer in discriminator if isinstance(layer, nn.BatchNorm2d)]
    assert [norm.num_features for norm in norms] == [128, 256], "none behind the first convolution"


def test_a_wasserstein_critic_scores_each_image_by_itself() -> None:
    for network in ("mlp", "conv"):
        config = WGANConfig(discriminator_widths=(16,), width=4, network=network)  # type: ignore[arg-type]
        critic = config.build_discriminator((1, 12, 12))
        images = torch.randn(6, 1, 12, 12)
        torch.testing.assert_close(critic(images)[2:3], critic(images[2:3]))
        assert config.build_generator((1, 12, 12))(torch.randn(2, 100)).shape == (2, 1, 12, 12)
    found = small("dcgan", gradient_penalty=10.0)
    with pytest.raises(UserError, match="gradient_penalty: it needs a discriminator without BatchNorm"):
        build_system(found.model, found.training, images_of((1, 8, 8)), torch.device("cpu"))


def test_a_conditional_gan_listens_to_the_label_and_needs_labels() -> None:
    config = CGANConfig(z_dim=4, generator_widths=(16,), discriminator_widths=(16,))
    generator, discriminator = config.build_generator((1, 5, 5), 3), config.build_discriminator((1, 5, 5), 3)
    noise, images = torch.randn(4).expand(3, 4), torch.randn(1, 5, 5).expand(3, 1, 5, 5)
    labels = torch.arange(3)
    assert len({tuple(image.flatten().tolist()) for image in generator(noise, labels)}) == 3
    assert len({logit.item() for logit in discriminator(images, labels)}) == 3
    data = ImageData(images_of((1, 5, 5)).images, None)
    with pytest.raises(UserError, match="data: mnist-5k has no class labels, which a conditional GAN needs"):
        build_system(config, PRESETS["cgan"].training, data, torch.device("cpu"))


@pytest.mark.parametrize("config", [MLPVAEConfig(widths=(16,)), ConvVAEConfig(width=4)], ids=["mlp", "conv"])
def test_a_vae_decodes_what_its_encoder_means(config: MLPVAEConfig | ConvVAEConfig) -> None:
    network = config.build((1, 10, 10))
    images, noise = torch.rand(7, 1, 10, 10), torch.randn(7, config.z_dim)
    decoded, mean, log_variance = network(images, noise)
    assert (decoded.shape, mean.shape, log_variance.shape) == ((7, 1, 10, 10), (7, 16), (7, 16))
    latents = mean + log_variance.exp().sqrt() * noise
    torch.testing.assert_close(network.decoder(latents), decoded)
    torch.testing.assert_close(network.decode(latents), decoded.sigmoid())
    # The noise counts, and every parameter is on the way.
    assert not torch.equal(network(images, -noise)[0], decoded)
    (decoded.square().sum() + mean.square().sum() + log_variance.square().sum()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_activation_is_an_option(preset: str, activation: str) -> None:
    model = small(preset, activation=activation).model
    classes = 3 if preset == "cgan" else 0
    network = build_sampling_network(model, (1, 8, 8), classes)
    wanted = ACTIVATIONS[activation].module
    assert any(type(layer) is wanted for layer in network.modules())
    assert not fusion_report(network).left or preset in ("dcgan", "conv-vae")
    assert build_sampling_network(small(preset, output_activation="identity").model, (1, 8, 8), classes) is not None


@pytest.mark.parametrize("size", [(8, 8), (9, 15), (1, 1), (28, 28)])
def test_padding_is_undone_by_cropping(size: tuple[int, int]) -> None:
    images = torch.randn(2, 1, *size)
    padded = PadTo(size, 8, -1.0)(images)
    assert all(side % 8 == 0 for side in padded.shape[2:])
    assert torch.equal(CropTo(size, 8)(padded), images)
    assert (padded == -1).sum().item() == padded.numel() - images.numel()


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (DCGANConfig, "width", 0), (DCGANConfig, "initial_deviation", -1.0), (DCGANConfig, "activation", "swish"),
        (WGANConfig, "network", "transformer"), (WGANConfig, "width", 1.5), (CGANConfig, "label_dim", 0),
        (MLPVAEConfig, "widths", [0]), (MLPVAEConfig, "z_dim", True), (ConvVAEConfig, "negative_slope", -0.1),
        (ConvVAEConfig, "output_activation", "softmax"),
    ],
)  # fmt: skip
def test_a_field_out_of_range_is_named(config: Any, field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^{field}: expected .*, got "):
        config(**{field: value})


def test_weights_come_from_torchs_own_initialisation() -> None:
    torch.manual_seed(5)
    network = MLPVAEConfig(widths=(12,)).build((1, 4, 4))
    torch.manual_seed(5)
    stock = [nn.Linear(16, 12), nn.Linear(12, 32), nn.Linear(16, 12), nn.Linear(12, 16)]
    ours: list[Tensor] = list(network.parameters())
    assert isinstance(network, VAENetwork)
    assert all(torch.equal(a, b) for a, b in zip(ours, (w for layer in stock for w in layer.parameters()), strict=True))
