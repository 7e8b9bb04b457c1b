"""The trainer takes the step that the papers describe, and learns."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fused_gan.base.errors import Diverged, UserError
from fused_gan.data import ImageData, load
from fused_gan.data.images import to_uint8
from fused_gan.models import MLPGANConfig, MLPVAEConfig
from fused_gan.systems.presets import to_json
from fused_gan.training import (
    GAN,
    VAE,
    GANTraining,
    VAETraining,
    build_system,
    configure,
    load_checkpoint,
    load_sampler,
    train,
)
from fused_gan.training.progress import progress_view

CPU = torch.device("cpu")
SMALL = MLPGANConfig(z_dim=8, generator_widths=(16, 32), discriminator_widths=(32, 16))


@pytest.fixture(scope="module")
def digits() -> ImageData:
    """Real digits, uint8 (5000, 1, 28, 28)."""
    return load("mnist-5k")


@pytest.fixture
def patches(digits: ImageData) -> ImageData:
    """The middles of the digits, uint8 (5000, 1, 8, 8), for tests that need no whole digit."""
    return ImageData(digits.images[:, :, 10:18, 10:18].contiguous(), digits.labels)


def build_gan(model: Any, config: GANTraining, data: ImageData) -> GAN:
    system = build_system(model, config, data, CPU)
    assert isinstance(system, GAN)
    return system


def test_each_network_gets_one_gradient_a_step_and_ends_trainable(patches: ImageData) -> None:
    gan = build_gan(SMALL, GANTraining(), patches)
    calls = {}
    for network in (gan.generator, gan.discriminator):
        for parameter in network.parameters():
            calls[parameter] = 0

            def count(parameter: Tensor) -> None:
                calls[parameter] += 1

            parameter.register_post_accumulate_grad_hook(count)
    gan.step()
    assert set(calls.values()) == {1}, "the discriminator's gradient in the generator's update is waste"
    assert all(parameter.requires_grad for parameter in calls)


def test_a_step_never_waits_for_the_device(patches: ImageData) -> None:
    class NoRead(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
            return func(*args, **(kwargs or {}))

    gan = build_gan(SMALL, GANTraining(), patches)
    gan.step()  # the optimizers make their state in their first step
    with NoRead():
        gan.step()
        with pytest.raises(AssertionError):
            gan.random.get_state().sum().item()  # reading would have been seen


def test_the_averaged_generator_follows_its_formula(patches: ImageData) -> None:
    gan = build_gan(SMALL, GANTraining(ema_decay=0.8), patches)
    expected = [weight.detach().clone() for weight in gan.generator.parameters()]
    for step in range(50):
        gan.step()
        decay = min(0.8, (1 + step) / (10 + step))
        weights = gan.generator.parameters()
        expected = [decay * mean + (1 - decay) * weight for mean, weight in zip(expected, weights, strict=True)]
        torch.testing.assert_close(list(gan.sampling_network.parameters()), expected, rtol=1e-6, atol=1e-7)
    noise = torch.randn(4, 8)
    assert torch.equal(gan.generate(noise), gan.sampling_network(noise))
    assert not torch.equal(gan.generate(noise), gan.generator(noise))


def test_one_seed_one_run_and_torch_random_state_is_left_alone(tmp_path: Path, patches: ImageData) -> None:
    np.savez(tmp_path / "patches.npz", images=patches.images[:, 0].numpy())

    def weights(name: str, seed: int) -> Tensor:
        data = str(tmp_path / "patches.npz")
        config = GANTraining(steps=5, seed=seed, device="cpu", data=data, out=tmp_path / name, tensorboard=False)
        train("mlp-gan", SMALL, config)
        state = load_checkpoint(tmp_path / name / "checkpoints" / "step-0000005.safetensors").state["generator"]
        return torch.cat([weight.flatten() for weight in state.values()])

    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = weights("first", 7)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(weights("again", 7), first)
    assert not torch.equal(weights("other", 8), first)


@pytest.mark.parametrize(("output", "low"), [("tanh", -1.0), ("identity", -1.0), ("sigmoid", 0.0), ("relu", 0.0)])
def test_the_data_is_scaled_to_the_range_of_the_output(patches: ImageData, output: str, low: float) -> None:
    model = MLPGANConfig(z_dim=8, generator_widths=(16,), discriminator_widths=(16,), output_activation=output)
    gan = build_gan(model, GANTraining(), patches)
    real = gan.data.take(torch.arange(len(gan.data)))
    assert (real.min().item(), real.max().item()) == pytest.approx((low, 1.0), abs=1e-6)
    assert gan.generate(torch.randn(3, 8)).shape == (3, 1, 8, 8)


def test_a_short_run_learns_what_digits_look_like(tmp_path: Path, digits: ImageData) -> None:
    model = MLPGANConfig(z_dim=32, generator_widths=(128, 256), discriminator_widths=(256, 128))
    config = GANTraining(steps=1000, log_interval=250, sample_interval=500, device="cpu", out=tmp_path / "run")
    untrained = to_uint8(build_gan(model, config, digits).generate(torch.randn(200, 32)), model.value_range)
    folder = train("mlp-gan", model, config).folder
    trained = load_sampler(folder.path, CPU).sample(200, seed=1)

    def likeness(images: Any) -> float:
        """Correlation of the mean image with that of the data."""
        real = digits.images.double().numpy().mean(axis=0)
        return float(np.corrcoef(images.mean(axis=0).ravel(), real.ravel())[0, 1])

    def smoothness(images: Any) -> float:
        """Correlation of neighbouring pixels: near 1 in pictures, 0 in noise."""
        return float(np.corrcoef(images[..., 1:].ravel(), images[..., :-1].ravel())[0, 1])

    def diversity(images: Any) -> float:
        """How far, in grey levels, a pixel differs between images: 0 when the generator has collapsed."""
        return float(images.astype(float).std(axis=0).mean())

    # Measured with three seeds: likeness 0.97 to 0.99, smoothness 0.85 to 0.88, diversity 20 to 24.
    assert likeness(untrained) < 0.3 < 0.9 < likeness(trained)
    assert smoothness(untrained) < 0.2 < 0.7 < smoothness(trained)
    assert diversity(trained) > 14

    metrics = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    logged = [line for line in metrics if "generator_loss" in line]
    assert [line["step"] for line in logged] == [250, 500, 750, 1000]
    assert all(line["images_per_second"] > 0 and np.isfinite(line["generator_loss"]) for line in logged)
    assert sorted(path.name for path in folder.samples.iterdir()) == ["step-0000500.png", "step-0001000.png"]


def test_a_run_that_diverges_says_so_and_keeps_the_last_good_checkpoint(tmp_path: Path, patches: ImageData) -> None:
    np.savez(tmp_path / "patches.npz", images=patches.images[:, 0].numpy())
    config = GANTraining(
        data=str(tmp_path / "patches.npz"),
        steps=50,
        lr=1e38,
        log_interval=7,
        checkpoint_interval=1,
        out=tmp_path / "run",
    )
    with pytest.raises(Diverged, match="is not finite"):
        train("mlp-gan", SMALL, config)


def test_a_terminal_gets_a_live_bar_and_a_file_plain_lines() -> None:
    losses = {"discriminator_loss": 1.25, "generator_loss": 0.75}
    for terminal, words in (
        (True, ["mlp-gan", "━", "40/40", "D 1.250", "G 0.750", "3,200 images/s", "0:00:00", "left"]),
        (
            False,
            ["mlp-gan  step 40/40", "discriminator_loss 1.250", "generator_loss 0.750", "3,200 images/s", "0 s left"],
        ),
    ):
        file = io.StringIO()
        console = Console(file=file, force_terminal=terminal, width=80)
        with progress_view(console, "mlp-gan", steps=40, batch_size=64) as view:
            for step in (10, 20, 30, 40):
                view.report(step, losses, 3200.0)
        text = file.getvalue()
        assert all(word in text for word in words)
        # Lines at intervals of seconds: here the first and the last.
        assert terminal or text.count("\n") == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0), ("batch_size", -1), ("log_interval", 0), ("sample_interval", -1), ("checkpoint_interval", -1),
        ("lr", 0.0), ("lr", float("nan")), ("betas", (0.5, 1.0)), ("ema_decay", 1.0), ("instance_noise", -0.1),
        ("seed", -1), ("threads", 0), ("dtype", "int8"), ("n_critic", 0), ("loss", "mse"), ("gradient_penalty", -1.0),
        ("r1", float("nan")), ("weight_clip", -1.0), ("gradient_clip", -1.0), ("gradient_accumulation", 0),
        ("optimizer", "sgd"), ("lr_schedule", "steps"), ("warmup_steps", -1), ("mixed_precision", "fp8"),
        ("discriminator_lr", 0.0), ("image_size", 0), ("channels", 2), ("data_place", "disk"), ("keep_checkpoints", 0),
        ("best_metric", "fid"), ("health_interval", -1), ("on_collapse", "pray"), ("cuda_graph", "perhaps"),
    ],
)  # fmt: skip
def test_a_training_field_out_of_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^{field}: expected .*, got "):
        GANTraining(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("z_dim", 0), ("z_dim", "9"), ("generator_widths", (3, 0)), ("discriminator_widths", (1.5,)),
        ("activation", "swish"), ("discriminator_activation", ""), ("output_activation", "softmax"),
        ("negative_slope", -0.1), ("negative_slope", float("inf")),
    ],
)  # fmt: skip
def test_a_model_field_out_of_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^{field}: expected .*, got "):
        MLPGANConfig(**{field: value})


@pytest.mark.parametrize(("field", "value"), [("beta", -1.0), ("deviation", 0.0), ("likelihood", "cauchy")])
def test_a_field_of_a_vae_out_of_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^{field}: expected .*, got "):
        VAETraining(**{field: value})


def test_configure_takes_lists_and_the_numbers_of_numpy_and_says_what_came() -> None:
    widths = np.array([8, 16])
    preset = configure("mlp-gan", generator_widths=list(widths), steps=widths[0], lr=np.float32(0.5), betas=[0, 0.5])
    expected = configure("mlp-gan", generator_widths=(8, 16), steps=8, lr=0.5, betas=(0, 0.5))
    assert preset == expected
    assert json.dumps(to_json(preset)) == json.dumps(to_json(expected))
    with pytest.raises(UserError, match=r"generator_widths: expected a list of integers, got \[8, 16\.5\]"):
        configure("mlp-gan", generator_widths=[8, 16.5])


def test_configure_sets_fields_of_model_and_training_and_names_unknown_ones() -> None:
    preset = configure("wgan-gp", steps=7, z_dim=3, lr=0.5)
    assert isinstance(preset.training, GANTraining)
    assert (preset.training.steps, preset.training.lr, preset.model.z_dim) == (7, 0.5, 3)
    assert (preset.training.loss, preset.training.n_critic) == ("wasserstein", 5), "the preset's own stay"
    with pytest.raises(UserError, match=r"^no_such: wgan-gp has no such field"):
        configure("wgan-gp", no_such=1)
    with pytest.raises(UserError, match=r"^preset: expected one of mlp-gan, .*, got 'stylegan'"):
        configure("stylegan")


def test_a_vae_learns_to_reconstruct_and_its_bounds_are_ordered(digits: ImageData) -> None:
    preset = configure("mlp-vae", steps=400)
    vae = build_system(preset.model, preset.training, digits, CPU)
    assert isinstance(vae, VAE)
    images = vae.data.take(torch.arange(0, 5000, 50))
    before, error = vae.scores()["negative_elbo"], (vae.network.reconstruct(images) - images).square().mean().item()
    for _ in range(400):
        vae.step()
    # Measured with three seeds: from 545 to between 168 and 175 nats, from 0.23 to 0.05.
    assert vae.scores()["negative_elbo"] < 200 < 500 < before
    assert (vae.network.reconstruct(images) - images).square().mean().item() < 0.4 * error
    one, many = vae.likelihood.iwae(images, 1).mean().item(), vae.likelihood.iwae(images, 32).mean().item()
    assert one == pytest.approx(-vae.scores()["negative_elbo"], rel=0.1)
    assert many > one + 1


def test_bernoulli_pixels_need_a_sigmoid(patches: ImageData) -> None:
    with pytest.raises(UserError, match=r"^likelihood: bernoulli needs output_activation sigmoid, got tanh"):
        build_system(MLPVAEConfig(output_activation="tanh"), VAETraining(), patches, CPU)


@pytest.mark.parametrize("changes", [{}, {"n_critic": 3, "gradient_penalty": 10.0, "loss": "wasserstein"}], ids=str)
def test_accumulated_gradients_are_those_of_the_whole_batch(patches: ImageData, changes: dict[str, Any]) -> None:
    def losses(parts: int) -> list[float]:
        config = GANTraining(batch_size=24, steps=20, dtype="float64", gradient_accumulation=parts, **changes)
        gan = build_gan(SMALL, config, patches)
        for _ in range(10):
            gan.step()
        return list(gan.mean_losses().values())

    whole = losses(1)
    assert losses(4) == pytest.approx(whole, rel=1e-9)
    with pytest.raises(UserError, match="batch_size: 24 cannot be shared equally by 1 processes in 5 parts"):
        losses(5)


def test_data_on_the_host_gives_the_same_run(patches: ImageData) -> None:
    def losses(place: Any) -> dict[str, float]:
        gan = build_gan(SMALL, GANTraining(steps=20, data_place=place), patches)
        assert gan.data.on_host == (place == "host")
        for _ in range(10):
            gan.step()
        return gan.mean_losses()

    assert losses("host") == losses("device")


def test_a_schedule_sets_the_step_size(patches: ImageData) -> None:
    config = GANTraining(steps=10, lr=1.0, warmup_steps=4, lr_schedule="linear", discriminator_lr=0.5)
    gan = build_gan(SMALL, config, patches)
    seen = []
    for _ in range(10):
        gan.step()
        seen.append([float(gan.optimizers[name].param_groups[0]["lr"]) for name in ("generator", "discriminator")])
    expected = [0.25, 0.5, 0.75, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert [lr for lr, _ in seen] == pytest.approx(expected)
    assert [lr for _, lr in seen] == pytest.approx([lr / 2 for lr in expected])


def test_bounds_on_weights_and_gradients_are_kept(patches: ImageData) -> None:
    gan = build_gan(SMALL, GANTraining(weight_clip=0.003, gradient_clip=0.01, loss="wasserstein"), patches)
    for _ in range(3):
        gan.step()
    assert max(weight.abs().max().item() for weight in gan.discriminator.parameters()) <= 0.003 + 1e-9
    for network in gan.networks.values():
        gradients = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
        assert gradients.norm().item() <= 0.01 * (1 + 1e-5)


def test_bfloat16_products_train_too_and_weights_stay_float32(patches: ImageData) -> None:
    gan = build_gan(SMALL, GANTraining(mixed_precision="bf16"), patches)
    ran: set[torch.dtype] = set()
    gan.generator[0].register_forward_hook(lambda module, inputs, output: ran.add(output.dtype))
    for _ in range(3):
        gan.step()
    assert ran == {torch.bfloat16}
    assert {weight.dtype for weight in gan.generator.parameters()} == {torch.float32}
    assert all(np.isfinite(list(gan.mean_losses().values())))
    with pytest.raises(UserError, match="mixed_precision: fp16 needs a CUDA device, got cpu"):
        build_gan(SMALL, GANTraining(mixed_precision="fp16"), patches)


def test_a_preset_that_could_not_be_read_back_is_not_trained(tmp_path: Path) -> None:
    preset = configure("mlp-gan", steps=1, out=tmp_path / "run", device="cpu")
    with pytest.raises(UserError, match=r"^preset: expected one of mlp-gan, .*, got 'mine'"):
        train(dataclasses.replace(preset, name="mine"))
    with pytest.raises(UserError, match=r"^model: mlp-vae takes a MLPVAEConfig, got a MLPGANConfig"):
        train(dataclasses.replace(preset, name="mlp-vae"))
    with pytest.raises(UserError, match=r"^training: mlp-gan takes a GANTraining, got a VAETraining"):
        train("mlp-gan", config=VAETraining(out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
