"""What a training reports while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from uresnet.training.validation import Validation


@dataclass(frozen=True)
class StepDone:
    """One update: where the training stands, and the unweighted terms of the loss with their weighted ``total``."""

    step: int
    epoch: int
    fraction: float
    seconds: float
    rate: float
    downsampling: int
    terms: dict[str, float]

    def __str__(self) -> str:
        shown = " ".join(f"{name} {value:.4f}" for name, value in self.terms.items())
        return (
            f"step {self.step} epoch {self.epoch} {self.seconds:.0f} s ({self.fraction:.0%}) "
            f"1/{self.downsampling} lr {self.rate:.1e} {shown}"
        )


@dataclass(frozen=True)
class CheckpointFailed:
    """A checkpoint could not be written. The one before it is whole, and the training continues."""

    reason: str

    def __str__(self) -> str:
        return f"{self.reason} The checkpoint before is kept; training goes on and tries again."


Event = StepDone | Validation | CheckpointFailed
Report = Callable[[Event], None]
