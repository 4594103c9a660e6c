"""One process of a cohort: the model is loaded once, and jobs are done one after the other.

Two threads may call :meth:`Worker.run` at the same time: while one computes, the other reads or writes.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_args

import torch

from uresnet.cohort.claims import claim
from uresnet.cohort.encodings import Encodings, KeptNetwork
from uresnet.cohort.jobs import HIDDEN, Job, Options, Outcome
from uresnet.cohort.manifest import Manifest
from uresnet.cohort.results import remove_remains, result_of
from uresnet.cohort.scans import KnownScans
from uresnet.core.choices import ExtraName
from uresnet.core.device import chosen_device
from uresnet.core.limits import is_out_of_memory, keep_freed_memory, return_freed_memory
from uresnet.core.memory import peak_memory, reset_peak_memory
from uresnet.coupling import segments_alone
from uresnet.errors import UserError, quoted, told_by_the_command
from uresnet.model.catalogue import find_model
from uresnet.model.checkpoint import Model, load_model
from uresnet.pipeline.register import register
from uresnet.pipeline.segment import segment
from uresnet.results.record import Quality, now


class Worker:
    """Does jobs with the same ``options``. Raises :class:`UserError` for a model that cannot be loaded, and for a
    device that is not here."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.scans = KnownScans(options.kept_images)
        self.name = f"{platform.node()}:{os.getpid()}"
        self._computing = threading.Lock()
        torch.set_num_threads(options.threads)
        keep_freed_memory()
        self.device = chosen_device(options.device)
        self.model = self._loaded()

    def run(self, job: Job) -> Outcome:
        """Do one job. Whatever goes wrong is in the outcome: it costs this job alone."""
        with claim(self.options.folder, job.id) as free, told_by_the_command():
            if not free:
                return Outcome(id=job.id, state="busy")
            there = result_of(self.options.folder / job.id, job.key)
            if there is not None:  # another run has done it in the meantime
                return there
            try:
                return self._do(job)
            except Exception as error:
                return Outcome(
                    id=job.id, state="failed", key=job.key, error=_sentence(error), worker=self.name, time=now()
                )

    def _do(self, job: Job) -> Outcome:
        for scan in job.scans:
            self.scans.image(scan)  # ahead, while another pair is computed
        with self._computing:
            started, looks = time.monotonic(), self._looks()
            reset_peak_memory(self.device)
            save, quality, warnings = self._computed(job)
            computed, looks = time.monotonic() - started, self._looks() - looks
            peaks = [peak_memory(self.device)]  # the next job measures anew
            return_freed_memory(also_kept=True)  # what writing needs is smaller
        started = time.monotonic()
        remove_remains(self.options.folder / job.id, lambda: job.id in Manifest(self.options.folder).made())
        save()
        peaks.append(peak_memory(self.device))
        peak = max(filter(None, peaks), default=None)
        return Outcome(
            id=job.id,
            state="done",
            key=job.key,
            verdict="" if quality is None else quality.verdict.value,
            reasons=() if quality is None else quality.reasons,
            seconds=round(computed + time.monotonic() - started, 2),
            peak_mb=None if peak is None else peak // 2**20,
            encodings=looks,
            worker=self.name,
            warnings=tuple(warnings),
            time=now(),
        )

    def _computed(self, job: Job) -> tuple[Callable[[], None], Quality | None, Sequence[str]]:
        """What writes the result, its verdict, and its warnings."""
        options, folder = self.options, self.options.folder / job.id
        if job.fixed is None:
            known = self.scans.known(job.moving)
            found = segment(
                known.image, model=self.model, brain=options.brain, mask=job.moving.mask, device=self.device
            )
            said = (*known.warnings, *found.record.warnings)
            segmented = replace(found, record=replace(found.record, key=job.key, warnings=said))
            extras = [name for name in get_args(ExtraName) if name in options.outputs]
            report = "report" in options.outputs

            def save_segmentation() -> None:
                segmented.save(folder, report, overwrite=folder.exists(), command=options.command, extras=extras)

            return save_segmentation, found.record.quality, said
        moving, fixed = self.scans.image(job.moving), self.scans.image(job.fixed)
        result = register(
            moving,
            fixed,
            model=self.model,
            transform=options.transform,
            refine=options.refine,
            brain=options.brain,
            masks=(job.moving.mask, job.fixed.mask),
            device=self.device,
            keep=self.scans.keep,
        )
        result = replace(result, record=replace(result.record, key=job.key), compact=True)

        def save() -> None:
            written: dict[str, Any] = {
                "outputs": options.outputs,
                "formats": options.formats,
                "field_spacing": options.field_spacing,
            }
            result.save(folder, folder.exists(), options.command, **written)

        return save, result.record.quality, result.warnings

    def _loaded(self) -> Model:
        file = find_model(self.options.model)
        if self.options.general is not None:
            file = replace(file, general=find_model(self.options.general))
        model = load_model(file).to(self.device)
        if not segments_alone(model) or not self.options.kept_encodings:
            return model
        folder = self.options.encodings or self.options.folder / HIDDEN / "encodings"
        encodings = Encodings(folder, self.options.kept_encodings)
        return _keeping(model, encodings)

    def _looks(self) -> int:
        return self.model.network.asked if isinstance(self.model.network, KeptNetwork) else 0


def _keeping(model: Model, encodings: Encodings) -> Model:
    """The same model, and the one that looks first, asking what is kept before they look."""
    general = None if model.general is None else _keeping(model.general, encodings)
    return replace(model, network=KeptNetwork(model.network, model.sha256, encodings), general=general)


def _sentence(error: Exception) -> str:
    """What went wrong, for the manifest."""
    if isinstance(error, UserError):
        return quoted(str(error), 1000)
    if is_out_of_memory(error):
        return "The memory did not suffice; give fewer workers, or more memory."
    return f"unexpected error: {type(error).__name__}: {quoted(str(error), 500)}"
