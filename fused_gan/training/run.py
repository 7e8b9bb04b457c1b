"""Trains a preset into a run folder, and resumes such runs."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from rich.console import Console

from fused_gan.base.errors import UserError, require
from fused_gan.base.memory import memory_for
from fused_gan.base.torch_state import torch_defaults
from fused_gan.data import ImageData, load
from fused_gan.data.datasets import anywhere, require_there
from fused_gan.models import GANModel, VAEModel
from fused_gan.models.sampler import Sampler
from fused_gan.ops.library import VERSION
from fused_gan.systems.build import build_system, count_classes, sizes_text
from fused_gan.systems.config import RUNTIME, TrainingConfig
from fused_gan.systems.devices import cuda_obstacle, resolve_device
from fused_gan.systems.gan import GAN
from fused_gan.systems.monitor import Monitor, Verdict
from fused_gan.systems.presets import Preset, find_preset, require_known
from fused_gan.systems.processes import ignored_launcher, ignored_settings, launched, make_accelerator
from fused_gan.systems.vae import VAE
from fused_gan.training.agreement import Agreement, agreed, alone_in, in_all
from fused_gan.training.checkpoint import Checkpoints, load_checkpoint, newer_version, unreadable
from fused_gan.training.description import RunDescription
from fused_gan.training.folder import RunFolder, claim_folder
from fused_gan.training.measured_plans import as_begun, followed_plans
from fused_gan.training.progress import Output, ProgressView, is_closed, lost_output, progress_view
from fused_gan.training.recorder import Recorder, memory_for_evaluation
from fused_gan.training.state import RunState
from fused_gan.training.stop_signal import StopSignal

if TYPE_CHECKING:
    from fused_gan.evaluation import Evaluator

ROLLBACKS = 3  # the most in one run


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        folder: the run folder.
        steps_done: the number of steps done.
        stopped_by: the signal that stopped the run early, if one did.
        verdicts: the verdicts of the health monitor's last look.
        stopped_by_verdict: whether one of the verdicts stopped the run.
        lost_output: why standard output could not be written, which ends a run too; "" if all was written, or if its
            reader had gone.
    """

    folder: RunFolder
    steps_done: int
    stopped_by: signal.Signals | None
    verdicts: tuple[Verdict, ...] = ()
    stopped_by_verdict: bool = False
    lost_output: str = ""


@torch_defaults()
def train(
    preset: Preset | str,
    model: GANModel | VAEModel | None = None,
    config: TrainingConfig | None = None,
    console: Console | None = None,
) -> RunResult:
    """Train a system and leave its run folder, as `RunFolder` describes it.

    SIGINT (Ctrl-C), SIGTERM and SIGHUP end the run after the current step, with everything saved, and so does standard
    output that cannot be written. `resume` continues it.

    Args:
        preset: the system, as `configure` makes it, or its name in `PRESETS`.
        model: its networks; by default the preset's.
        config: its training; by default the preset's.
        console: where progress goes; by default standard output.

    Raises:
        UserError: the data, the device or the folder cannot be used. Nothing was written.
        Diverged: a loss or a weight became infinite or NaN. The last checkpoint is from before.
        OSError: a file cannot be written.
    """
    given = find_preset(preset) if isinstance(preset, str) else preset
    configured = dataclasses.replace(given, model=model or given.model, training=config or given.training)
    require_known(configured)
    console = console or Output()
    device, accelerator = _set_up(configured.training)
    out = configured.training.out
    made = claim_folder(configured.name) if out is None and accelerator.is_main_process else None
    folder = RunFolder(agreed(accelerator, out or made))
    try:
        in_all(folder.require_new)
        run = _Run(configured, folder, device, accelerator)
    except BaseException:
        if made is not None:
            made.rmdir()
        raise
    with alone_in(folder, accelerator, folder.require_new):
        if accelerator.is_main_process:
            folder.create(run.description)
        on_cpu = configured.training.device == "auto" and device.type == "cpu"
        return run.go(console, f"device auto: cpu, as {cuda_obstacle()}" if on_cpu else "")


@torch_defaults()
def resume(
    path: Path | str,
    steps: int | None = None,
    checkpoint: str | None = None,
    console: Console | None = None,
    data: str | None = None,
    **runtime: Any,
) -> RunResult:
    """Continue a run that ended early or was killed, as if it had never stopped.

    Args:
        path: the run's folder.
        steps: train to this step instead of the configured one. The instance noise and a falling lr then follow the new
            number of steps.
        checkpoint: what to go on from: "last", "best" or a file in the folder `checkpoints`; by default the last.
        console: where progress goes.
        data: the new place of the images, if they have moved.
        runtime: new values of fields in `RUNTIME`; None keeps the run's value. On another kind of device, the random
            numbers differ from here on.

    Raises:
        UserError: the folder does not hold a run; the checkpoint is missing or damaged; the data has changed; no steps
            are left; a field is part of the experiment; or another process trains this run or has done so meanwhile.
        Diverged, OSError: as `train`.
    """
    console = console or Output()
    fixed = sorted(runtime.keys() - set(RUNTIME))
    require(not fixed, f"{', '.join(fixed)}: only steps, {', '.join(RUNTIME)} may change when a run goes on")
    folder = RunFolder(path)
    path = folder.path
    folder.require_run()
    store = Checkpoints(folder.checkpoints, keep=1)
    newest = store.newest()
    loaded = store.load(checkpoint)
    try:
        description = RunDescription.from_json(loaded.config)
        given = {k: value for k, value in (runtime | {"steps": steps, "data": data}).items() if value is not None}
        if "device" in given and description.training.get("cuda_graph") == "on":
            given.setdefault("cuda_graph", "auto")  # which may not be possible on the new device
        preset = description.configured(**{"out": path} | given)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        says = "the configuration in the checkpoint is broken"
        raise unreadable(folder.checkpoints, loaded.config, says, error) from error
    except UserError as error:
        if newer_version(loaded.config) is None:
            raise
        raise unreadable(folder.checkpoints, loaded.config, "", error) from error
    try:
        state = RunState.from_dict(loaded.state)
        done = state.steps_done
    except (KeyError, TypeError) as error:
        says = "the state in the checkpoint does not fit"
        raise unreadable(folder.checkpoints, loaded.config, says, error) from error
    require(done < preset.training.steps, f"run: {path} has done its {done} steps; give more with --steps")
    with as_begun(description, preset.training, folder) as missing:
        return _go_on(preset, description, state, folder, newest, console, missing)


def _go_on(
    preset: Preset,
    begun: RunDescription,
    state: RunState,
    folder: RunFolder,
    newest: tuple[Path, int] | None,
    console: Console,
    missing: str,
) -> RunResult:
    """Continue from a checkpoint, unless another process has trained the run further since `newest` was read.

    Args:
        preset: the preset to train from now on.
        begun, state: description and state in the checkpoint.
        folder: the run folder.
        newest: path and mtime of the folder's latest checkpoint.
        console: where progress goes.
        missing: which of the run's measured choices cannot be followed, in words.
    """
    store = Checkpoints(folder.checkpoints, keep=1)
    device, accelerator = _set_up(preset.training)
    # The description keeps all measured choices of the run, for a machine that can follow them again.
    run = _Run(preset, folder, device, accelerator, begun, begun.plans if missing else None)
    begun.require_same_data(run.description)

    def require_unchanged() -> None:
        unchanged = store.newest() == newest
        require(unchanged, f"run: another process has trained on in {folder.path} meanwhile; resume it again")

    with alone_in(folder, accelerator, require_unchanged):
        try:
            with run.memory():
                run.recorder.restore(state)
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            says = "the state in the checkpoint does not fit"
            raise unreadable(folder.checkpoints, begun.to_json(), says, error) from error
        if accelerator.is_main_process:
            folder.write_config(run.description)
            store.forget_after(state.steps_done)
        changed = f"not every kernel is the one that the run was begun with: {missing}" if missing else ""
        return run.go(
            console, f"resuming behind step {state.steps_done}", changed, begun.unchecked_data(run.config.data)
        )


class _Run:
    """A system in training, with its recorder."""

    def __init__(
        self,
        preset: Preset,
        folder: RunFolder,
        device: torch.device,
        accelerator: Accelerator,
        begun: RunDescription | None = None,
        plans: list[dict[str, Any]] | None = None,
    ) -> None:
        config, model = preset.training, preset.model
        self.name, self.config, self.folder, self._device = preset.name, config, folder, device
        self.accelerator = accelerator
        if begun is not None:
            require_there(config.data)
        data = load(config.data, config.image_size, config.channels)
        if begun is not None:
            begun.require_no_class_lost(data, config.data)
            data = begun.with_its_classes(data, config.data)
        self.system: GAN | VAE = build_system(model, config, data, device, accelerator)
        shape, classes = self.system.data.shape, count_classes(model, data, config.data)
        self.description = RunDescription.of(
            preset,
            {"device": str(device), "out": str(folder.path), "data": anywhere(config.data)},
            image_shape=shape,
            images=len(data.images),
            classes=classes,
            class_names=data.class_names,
            data_sha256=data.sha256,
            # Kernels differ in the last digits, so a run continues with the kernels that it was begun with.
            plans=followed_plans(device) if plans is None else plans,
            versions={"fused_gan": VERSION, "torch": torch.__version__},
        )
        self._data_text, names = data.about(config.data), data.class_names if classes else ()
        sampler = Sampler(self.system.sampling_network, model.z_dim, model.value_range, classes, shape, names)
        evaluator = self._evaluator(data, sampler) if config.evaluates and accelerator.is_main_process else None
        self._agreement = Agreement(accelerator, device)
        self._networks, self._goes_on = f"{preset.name} ({sizes_text(model)})", begun is not None
        self.recorder = Recorder(self.system, sampler, folder, self.description, Monitor(self.system), evaluator)

    def _evaluator(self, data: ImageData, sampler: Sampler) -> Evaluator:
        from fused_gan.evaluation.evaluator import Evaluator, extractor_or_none  # takes seconds: not at start-up

        config = self.config
        extractor = extractor_or_none(config.extractor, config.data, sampler.image_shape)
        if extractor is not None:
            scored = extractor.knows_classes or config.best_metric != "classifier_score"
            says = f"best_metric: classifier_score needs classes, and the {extractor.name} was trained without"
            require(scored, says)
            extractor.to(self._device)
        with memory_for_evaluation(config):
            return Evaluator.of(data, config.data, extractor, config.evaluate_samples, config.seed)

    def introduction(self) -> str:
        """Return a line that says what is trained, on which device and which data, and a line of what is left out."""
        found, *left_out = self._data_text
        processes = self.accelerator.num_processes
        return (
            f"{self.name} on {self._device}{f' in {processes} processes' if processes > 1 else ''}, "
            f"{found}{', kept on the host' if self.system.data.on_host else ''}, run folder {self.folder.path}"
            f"{self._about_the_graph()}{''.join(f'{chr(10)}{line}' for line in left_out)}"
        )

    def memory(self) -> AbstractContextManager[None]:
        """Return the context that says what a step takes, and what may help where that is too much."""
        batch = f"{self.config.batch_size:,} images of {'×'.join(map(str, self.system.data.shape))} at a time"
        ways = [] if self._goes_on else ["a smaller --batch-size", "a higher --gradient-accumulation"]
        ways += [] if self.system.data.on_host else ["--data-place host"]
        return memory_for(f"{batch} through {self._networks}", f"{', '.join([*ways, 'another --device'])} may help")

    def _about_the_graph(self) -> str:
        if self._device.type != "cuda" or self.config.cuda_graph == "off":
            return ""
        return ", step in a CUDA graph" if self.system.replays else f", no CUDA graph: {self.system.graph_obstacle}"

    def go(self, console: Console, *first: str | None) -> RunResult:
        """Train to the last step, or until a signal or a verdict stops the run.

        Args:
            console: where progress goes.
            first: lines that are printed before the introduction; empty ones are left out.
        """
        verdicts: tuple[Verdict, ...] = ()
        stopped = False
        quiet = None if self.accelerator.is_main_process else Console(quiet=True)
        self.recorder.open()
        try:
            with self.memory(), StopSignal() as stop, self._view(quiet or console, first) as view:
                while self.system.steps_done < self.config.steps and not stopped:
                    self.system.step()
                    step = self.system.steps_done
                    if is_closed(console):
                        stop.note(signal.SIGPIPE)
                    last = step == self.config.steps or self._asked_to_stop(stop, step)
                    # Not when stopped early: an extra look would change the history that later looks are judged by, and
                    # the resumed run would differ.
                    if self._planned(self.config.health_interval, step):
                        verdicts = tuple(self.recorder.look())
                        stopped, rolled_back = self._act_on(verdicts, view)
                        if rolled_back:
                            continue
                        last |= stopped
                    if last or due(self.config.log_interval, step):
                        view.report(step, *self.recorder.log())
                    if self._planned(self.config.evaluate_every, step):
                        self.recorder.evaluate()
                    if last or due(self.config.sample_interval, step):
                        self.recorder.draw()
                    if last or due(self.config.checkpoint_interval, step):
                        self.recorder.save()
                    if last:
                        break
            self.recorder.finish()
        finally:
            self.recorder.close()
        self.accelerator.wait_for_everyone()
        lost = lost_output(console)
        stopped_by = None if lost and stop.received == signal.SIGPIPE else stop.received
        return RunResult(self.folder, self.system.steps_done, stopped_by, verdicts, stopped, lost)

    def _view(self, console: Console, first: Sequence[str | None]) -> ProgressView:
        # While signals are noted: whoever reads these lines may count on a stop that saves.
        for line in filter(None, (ignored_launcher(), ignored_settings(), *first, self.introduction())):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return progress_view(console, self.name, self.config.steps, self.config.batch_size)

    def _planned(self, interval: int, step: int) -> bool:
        """Whether `step` ends an interval, or ends the run. Never, if `interval` is 0."""
        return due(interval, step) or (interval > 0 and step == self.config.steps)

    def _asked_to_stop(self, stop: StopSignal, step: int) -> bool:
        """Whether to stop after a signal. Several processes have to agree, as all must stop at the same step."""
        if self.accelerator.num_processes == 1:
            return stop.received is not None
        return self._agreement.reached(stop.received is not None, step)

    def _act_on(self, verdicts: tuple[Verdict, ...], view: ProgressView) -> tuple[bool, bool]:
        """Show the verdicts; return whether to stop, and whether the run was rolled back."""
        for verdict in verdicts:
            view.tell(f"step {self.system.steps_done}: {verdict}")
        if not any(verdict.fatal for verdict in verdicts) or self.config.on_collapse == "warn":
            return False, False
        if self.config.on_collapse == "stop" or self.recorder.rollbacks >= ROLLBACKS:
            return True, False
        sound = self._sound_state()
        if sound is None:
            return True, False
        before = self.system.steps_done
        self.recorder.roll_back(sound)
        view.tell(f"step {before}: rolled back to step {self.system.steps_done}, going on with other noise")
        return False, True

    def _sound_state(self) -> RunState | None:
        """Return the latest saved state in which the monitor suspects nothing, or None."""
        for path in reversed(Checkpoints(self.folder.checkpoints, keep=1).all()):
            state = RunState.from_dict(load_checkpoint(path).state)
            if not state.is_suspicious:
                return state
        return None


def due(interval: int, step: int) -> bool:
    """Whether `step` ends an interval of this many steps. Never, if `interval` is 0."""
    return interval > 0 and step % interval == 0


def _set_up(config: TrainingConfig) -> tuple[torch.device, Accelerator]:
    """Return the device and the accelerator of this process."""
    device = resolve_device(config.device)
    accelerator = make_accelerator(device, config.mixed_precision)
    if launched() and device.type == "cuda":
        device = accelerator.device  # one GPU per process
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    return device, accelerator
