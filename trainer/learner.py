"""The model, its moving average and its optimizer: one step over a batch, and how a checkpoint holds them."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from trainer import checkpoint, devices, losses, models
from trainer.ema import EMA
from trainer.stream import seeds
from trainer.team import Team, without_sync

if TYPE_CHECKING:
    from trainer.config import Config
    from trainer.state import State
    from trainer.stream.loader import Batch


class Learner:
    """What learns, in one of the processes of `team`."""

    def __init__(self, config: Config, team: Team) -> None:
        settings = config.optimiser
        self.config, self.team = config, team
        self.bf16 = devices.uses_bf16(settings.precision, team.device)
        torch.manual_seed(config.run.seed)
        self.model = models.build(config.model.name, config.model.preset, **config.model.options).to(team.device)
        if config.run.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = EMA(self.model, settings.ema)
        if settings.checkpointing:
            _recompute(self.model, models.blocks(config.model.name))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), settings.lr, settings.betas, weight_decay=settings.weight_decay, fused=True
        )
        self._loss = losses.get(settings.loss)
        self.extended: list[dict[str, int]] = []  # resumes with more steps: at `step`, from `steps` in all
        self.norms: list[float] = []  # L2 norm of d loss / d output of this process's samples, in the last step
        self._wrapped = team.wrap(self.model)
        self._forward: Any = torch.compile(self._wrapped) if config.run.compile else self._wrapped

    def step(self, batch: Batch, step: int) -> tuple[list[float], bool]:
        """One optimizer step over this process's part of the batch, in `accumulate` pieces.

        Returns the loss of each of its samples, and whether the step counts: with a NaN or an infinity in the gradient
        nothing is changed. Every sample of the whole batch has the same weight, however it is shared and cut.
        """
        settings = self.config.optimiser
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        self.optimizer.zero_grad()
        torch.manual_seed(int(seeds.key("step", self.config.run.seed, step, self.team.rank)[0] >> 1))
        batch, values, norms = batch.to(self.team.device), list[Tensor](), list[Tensor]()
        share = self.team.world / len(batch.step_task)
        pieces = batch.parts(settings.accumulate)
        for number, (lq, gt) in enumerate(pieces):
            if self.config.run.channels_last:
                lq = lq.contiguous(memory_format=torch.channels_last)
            with without_sync(self._wrapped, when=number < len(pieces) - 1):
                with torch.autocast(lq.device.type, torch.bfloat16, enabled=self.bf16):
                    prediction: Tensor = self._forward(lq)
                restored = prediction.float()
                restored.register_hook(lambda grad: norms.append(grad.detach().flatten(1).norm(dim=1)))  # type: ignore[no-untyped-call]
                loss = self._loss(restored, gt)
                (loss.sum() * share).backward()  # type: ignore[no-untyped-call]
            values.append(loss.detach())
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        counts = math.isfinite(float(norm))
        if counts:
            self.optimizer.step()
        self.ema.update(self.model, step)
        self.norms = (torch.cat(norms) / share).tolist()
        kept: list[float] = torch.cat(values).tolist()
        return kept, counts

    def rate(self, step: int) -> float:
        """The learning rate: linear warm-up, then a cosine from lr to final·lr at the last step.

        Where a resume asked for more steps, it goes over to the longer cosine within `warmup` steps.
        """
        starts = (0, *(one["step"] for one in self.extended))
        totals = (*(one["steps"] for one in self.extended), self.config.optimiser.steps)
        return self._rate(step, list(zip(starts, totals, strict=True)))

    def _rate(self, step: int, parts: list[tuple[int, int]]) -> float:
        """parts: the first step of each, and the steps that the run was to have then."""
        *earlier, (start, total) = parts
        settings = self.config.optimiser
        warmed = min(1.0, (step - start + 1) / (settings.warmup + 1))
        cosine = 0.5 * (1.0 + math.cos(math.pi * step / total))
        rate = settings.lr * (settings.final + (1.0 - settings.final) * cosine)
        if not earlier:
            return rate * warmed
        if step < start:
            return self._rate(step, earlier)
        before = self._rate(start, earlier)
        return before + (rate - before) * warmed

    def save(self, folder: str, state: State) -> None:
        """Write a checkpoint of this step into the folder, and drop those that are neither new nor best."""
        content = {
            "model": self.config.model.model_dump(mode="json", exclude={"init"}),
            "config": self.config.model_dump(mode="json"),
            "state": asdict(state),
        }
        checkpoint.save(
            folder, state.step, model=self.model, ema=self.ema.average, optimizer=self.optimizer, state=content,
            keep=self.config.run.keep, best={name: int(one["step"]) for name, one in state.best.items()},
        )  # fmt: skip

    def load(self, found: checkpoint.Checkpoint) -> None:
        """Take over everything from a checkpoint of this run."""
        checkpoint.restore(found, model=self.model, ema=self.ema.average, optimizer=self.optimizer)

    def begin_from(self, found: checkpoint.Checkpoint) -> None:
        """Take over the averaged weights of another run's checkpoint, to train on from there."""
        weights = checkpoint.load_model(found, self.team.device).state_dict()
        self.model.load_state_dict(weights)
        self.ema.average.load_state_dict(weights)


def _recompute(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> None:
    """Let these blocks forget their activations and compute them again in the backward pass."""
    for module in model.modules():
        if isinstance(module, kinds):
            module.forward = partial(recomputed, module.forward, use_reentrant=False)
