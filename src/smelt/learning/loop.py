"""The training loop: plain PyTorch, and nothing in it that a kill, a bad image or a bad step can upset.

All that the result depends on is in (seed, step): the order of rows, the augmentation, and the generator of
drop-out, which is seeded anew at every step. So a run that goes on from a checkpoint computes the very
numbers that an undisturbed one computes.

Over several ranks the gradients are summed after the backward pass, not within it: the ranks first agree
whether one of them ran out of memory or was asked to stop. The running statistics of norms are averaged at
every step, so that after it all ranks are equal and one checkpoint serves all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from smelt.artifacts.checkpoint import Checkpoints
from smelt.data.images.beside import Beside
from smelt.data.images.loader import Batch
from smelt.data.images.sampler import Batches
from smelt.errors import PreemptedError, TrainingError
from smelt.files.failpoints import reach
from smelt.learning.config import TrainSettings
from smelt.learning.distillation import Teacher
from smelt.learning.distributed import Group, Stop
from smelt.learning.finetuning import Learning
from smelt.learning.gradients import Gradients, Sums
from smelt.learning.losses import Lesson
from smelt.learning.optimisation import Average, learning_rate_at, make_optimiser, set_learning_rate
from smelt.learning.pixels import Normaliser
from smelt.learning.semi_step import Accompanied, SemiGradients
from smelt.learning.standing import Observer, Progress, Standing
from smelt.learning.trainingdata import TrainingData
from smelt.learning.validation import accuracy
from smelt.models.preprocessing import Inputs
from smelt.random import step_seed

EXCHANGE_STEPS = 64  # how many steps' visits a rank keeps before it tells the others


class Loop:
    """One training. `run` goes from the last checkpoint to the end."""

    def __init__(
        self,
        model: nn.Module,
        settings: TrainSettings,
        data: TrainingData,
        *,
        learning_rate: float,
        device: torch.device,
        group: Group,
        checkpoints: Checkpoints,
        observers: Sequence[Observer] = (),
        teacher: Teacher | None = None,
        stop: Stop | None = None,
        emit: Callable[..., None] = lambda event, **fields: None,
        log_every_seconds: float = 2.0,
        inputs: Inputs = Inputs(),  # noqa: B008 (frozen)
    ) -> None:
        self.settings, self.data, self.device, self.group = settings, data, device, group
        self.model = model.to(device)
        if settings.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.learning_rate, self.checkpoints = learning_rate, checkpoints
        self.stop, self.emit = stop or Stop(), emit
        self.learning = Learning(self.model, settings)
        self.optimiser = make_optimiser(self.model, settings, self.learning.first)
        self.average = Average(self.model, settings.ema_decay) if settings.ema_decay else None
        self.progress = Progress(parts=settings.accumulate_steps)
        self.inputs = inputs
        self.normalise = Normaliser(device, settings.channels_last, inputs.mean, inputs.std)
        self.lesson = Lesson(settings, data, teacher, device, group)
        self.observers = [*observers, *self.lesson.observers]
        self.num_images = len(data.sampler)
        self.steps_per_epoch = math.ceil(self.num_images / settings.batch_size)
        self.gradients = self._gradients()
        self.total_steps = settings.epochs * self.steps_per_epoch
        self._buffers = list(self.model.buffers())
        self._buffers_before = [buffer.clone() for buffer in self._buffers]
        self._log_every, self._logged = log_every_seconds, (-math.inf, 0.0)  # (time, images done)
        self._images = 0.0
        self._saved = 0  # step of the last checkpoint

    def run(self) -> None:
        """Train to the end. Raises PreemptedError when asked to stop, TrainingError when it cannot go on."""
        if not self._load():
            self._save()
        while self.progress.step < self.total_steps:
            self._epoch(*divmod(self.progress.step, self.steps_per_epoch))

    def _gradients(self) -> Gradients:
        common = self.model, self.settings, self.lesson, self.normalise, self.group, self.learning
        if self.settings.semi is None:
            return Gradients(*common)
        found = SemiGradients(*common, self.steps_per_epoch)
        self.observers += found.observers
        if self.data.unlabelled is None:
            self.emit("warning", text="the selection dropped no row for its score: semi has no unlabelled "
                                      "images to learn from")  # fmt: skip
        return found

    # one epoch

    def _batches(self, epoch: int) -> Batches:
        """This rank's rows of each step. All steps are of one size except for a single image."""
        size, group = self.settings.batch_size, self.group
        return self.data.sampler.batches(epoch, size, group.rank, group.world_size, even=True)

    def _epoch(self, epoch: int, start: int) -> None:
        self.learning.begin(epoch)
        for observer in self.observers:
            observer.begin_epoch(epoch)
        asked: bool | None = False
        for batch in self._shown(epoch, start):
            last = (self.progress.step + 1) % self.steps_per_epoch == 0
            asked = self._step(batch)
            if asked is None:  # rolled back: the position has changed
                return
            every = self.settings.checkpoint_every_steps
            if not last and (asked or (every and self.progress.step % every == 0)):
                self._save_if_sound()
                self._leave_if(asked)
        self._end_epoch(epoch)
        self._leave_if(asked)

    def _shown(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on, with unlabelled images beside them for `semi`."""
        settings, loader, group = self.settings, self.data.loader, self.group
        labelled = loader.training(self._batches(epoch), settings.augment, epoch, start)
        semi, unlabelled = settings.semi, self.data.unlabelled
        if semi is None or unlabelled is None or epoch < semi.warmup_epochs:
            yield from labelled
            return
        size = max(round(semi.ratio * settings.batch_size), 1)
        rows = Beside(unlabelled, epoch, self.steps_per_epoch, size, group.rank, group.world_size)
        strongly = settings.augment.model_copy(update={"randaugment": semi.strong})
        weak, strong = (
            loader.training(rows, augment, epoch, start) for augment in (settings.augment, strongly)
        )
        for batch, *beside in zip(labelled, weak, strong, strict=True):
            yield Accompanied(batch.rows_B, batch.images, batch.valid_B, *beside)

    def _leave_if(self, asked: bool | None) -> None:
        if asked:
            raise PreemptedError(
                f"asked to stop: saved at step {self._saved} of {self.total_steps}, run again to go on"
            )

    def _end_epoch(self, epoch: int) -> None:
        progress = self.progress
        row: dict[str, Any] = {
            "epoch": epoch + 1,
            "step": progress.step,
            "learning_rate": self._rate(progress.step - 1),
            # of an epoch in which nothing was learnt from nothing can be told
            "train_loss": progress.loss / progress.seen if progress.seen else None,
            "train_top1": progress.right / progress.seen if progress.seen else None,
        }
        every = self.settings.validate_every_epochs
        if (epoch + 1) % every == 0 or epoch + 1 == self.settings.epochs:
            row |= self._validate()
        progress.metrics.append(row)
        progress.loss = progress.right = progress.seen = 0.0
        self._save_if_sound()
        self.emit("metric", **row)

    def _validate(self) -> dict[str, float]:
        data, settings = self.data, self.settings
        found: dict[str, float] = {}
        if not len(data.validation_rows):
            return found
        averaged = self.average.state_dict() if self.average else None
        for suffix, weights in (("", None), ("_ema", averaged)):
            if suffix and weights is None:
                continue
            found["val_top1" + suffix], found["val_top5" + suffix] = accuracy(
                self.model, data.loader, data.validation_rows, data.validation_labels, data.num_classes,
                settings.test_view, settings.batch_size, self.normalise, settings.precision, self.group,
                weights,
            )  # fmt: skip
        return found

    # one step

    def _rate(self, step: int) -> float:
        return self.progress.rate_factor * learning_rate_at(
            step, self.total_steps, self.steps_per_epoch, self.learning_rate, self.settings
        )

    def _step(self, batch: Batch) -> bool | None:
        """Learn from one batch. True: asked to stop. None: gone back to a checkpoint."""
        progress = self.progress
        reach("train:step", str(progress.step))
        planned = self._planned()
        while True:
            self.optimiser.zero_grad(set_to_none=True)
            torch.manual_seed(step_seed(self.settings.seed, progress.step, self.group.rank))
            sums, record = self.gradients.compute(
                batch, planned, progress.parts, self.stop.asked, progress.step
            )
            if not sums.out_of_memory:
                break
            self._halve_parts(planned)
        if sums.valid and not self._update(sums, planned):
            return self._bad_step(sums)
        for observer in self.observers:
            observer.update(*record)
        progress.bad_in_a_row = 0
        progress.step += 1
        if progress.step % EXCHANGE_STEPS == 0:
            for observer in self.observers:
                observer.exchange()
        progress.loss += sums.loss
        progress.right += sums.right
        progress.seen += sums.valid
        progress.masked += planned - int(sums.valid)
        self._log(sums)
        return bool(sums.asked_to_stop)

    def _planned(self) -> int:
        """Images of this step over all ranks."""
        epoch, step = divmod(self.progress.step, self.steps_per_epoch)
        return self._batches(epoch).size(step)

    def _update(self, sums: Sums, planned: int) -> bool:
        """One step of the optimiser; False, and nothing changed, where loss or gradient is not finite."""
        gradients = self.gradients.summed()
        if sums.valid != planned:
            torch._foreach_mul_(gradients, planned / sums.valid)
        norm = torch.nn.utils.get_total_norm(gradients)
        if not (math.isfinite(sums.loss) and bool(norm.isfinite())):
            _copy(self._buffers, self._buffers_before)
            return False
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.learning.parameters(), self.settings.clip_norm, norm)
        set_learning_rate(self.optimiser, self._rate(self.progress.step))
        self.optimiser.step()
        self._average_buffers()
        _copy(self._buffers_before, self._buffers)
        if self.average is not None:
            self.average.update(self.model, self.progress.step)
        return True

    @torch.no_grad()
    def _average_buffers(self) -> None:
        if self.group.world_size > 1:
            floats = [buffer for buffer in self.learning.buffers() if buffer.is_floating_point()]
            self.group.sum_all(floats)
            for buffer in floats:
                buffer.div_(self.group.world_size)

    # what goes wrong

    def _halve_parts(self, planned: int) -> None:
        """Out of memory on some rank: smaller micro-batches on all, the same batch and rate."""
        _copy(self._buffers, self._buffers_before)
        self.optimiser.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.progress.parts >= planned:
            raise TrainingError("out of memory with a single image: use a smaller model or input size")
        self.progress.parts *= 2
        self.emit("warning", text=f"out of memory: the batch is now done in {self.progress.parts} parts")

    def _bad_step(self, sums: Sums) -> bool | None:
        """Skip the step; after too many in a row go back to the last checkpoint, once, with half the rate."""
        progress = self.progress
        progress.bad_in_a_row += 1
        progress.skipped += 1
        progress.step += 1
        self.optimiser.zero_grad(set_to_none=True)
        self.emit("warning", text=f"step {progress.step}: loss {sums.loss} or gradient not finite, skipped")
        if progress.bad_in_a_row <= self.settings.max_bad_steps:
            return bool(sums.asked_to_stop)
        if progress.rate_factor < 1.0:
            raise TrainingError(
                f"loss or gradient not finite in {progress.bad_in_a_row} steps in a row up to step "
                f"{progress.step}, even after going back with half the learning rate. Lower learning_rate, "
                "set clip_norm, or use precision: fp32."
            )
        skipped, parts = progress.skipped, progress.parts
        self.group.barrier()
        assert self._load(), "there is a checkpoint of step 0 at least"
        self.progress.rate_factor = 0.5
        self.progress.skipped, self.progress.bad_in_a_row = skipped, 0
        self.progress.parts = parts  # the memory is no larger than it was
        self.emit("warning", text=f"back at step {self.progress.step} with half the learning rate")
        self._save()
        return None

    # checkpoints

    def _save_if_sound(self) -> None:
        """Save, but not within a row of bad steps: going back should lead to before they began.

        Not when asked to stop either: the run that goes on repeats the row, and goes back as far as one that
        was never stopped.
        """
        if not self.progress.bad_in_a_row:
            self._save()

    def _standing(self) -> Standing:
        return Standing(self.model, self.optimiser, self.average, self.observers)

    def _save(self) -> None:
        for observer in self.observers:
            observer.reduce()
        if self.group.first:
            self.checkpoints.save(self.progress.step, *self._standing().saved(self.progress))
        self._saved = self.progress.step
        self.group.barrier()

    def _load(self) -> bool:
        """Take up the last checkpoint, if there is one: the same on all ranks."""
        if not self.group.first:
            self.group.barrier()  # the first rank clears away what is damaged
        found = self.checkpoints.latest()
        if self.group.first:
            self.group.barrier()
        self.group.barrier()  # nor does it write, perhaps over this very one, before all have read
        if found is None:
            return False
        self.progress = self._standing().load(found)
        self._saved = self.progress.step
        _copy(self._buffers_before, self._buffers)
        self.emit("progress", done=self.progress.step, total=self.total_steps, unit="steps", text="resumed")
        return True

    def _log(self, sums: Sums) -> None:
        self._images += sums.valid
        now = time.monotonic()
        before, images = self._logged
        if now < before + self._log_every and self.progress.step < self.total_steps:
            return
        rate = (self._images - images) / (now - before)
        self._logged = (now, self._images)
        text = f"loss {sums.loss / max(sums.valid, 1.0):.3f}, {rate:.0f} images/s"
        self.emit("progress", done=self.progress.step, total=self.total_steps, unit="steps", text=text)


def _copy(to: list[Tensor], source: list[Tensor]) -> None:
    with torch.no_grad():
        for target, value in zip(to, source):
            target.copy_(value)
