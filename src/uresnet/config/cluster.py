"""What is asked of Slurm for the workers of a cohort."""

from __future__ import annotations

from dataclasses import dataclass

from uresnet.config.checks import Count, CountOrNone, Positive, check_numbers, require


@dataclass(frozen=True)
class ClusterConfig:
    """``jobs`` jobs of Slurm, each one worker with ``cores``, ``memory_gb`` and ``gpus`` for ``hours``.

    ``queue`` is the partition, ``account`` what is charged; None: Slurm's default. ``options`` are further lines of
    ``#SBATCH``, such as ``--constraint=avx2``. ``python`` is the interpreter on the nodes, None: that of the command.
    ``interface`` is the network that the nodes reach this computer by, such as ``ib0``.
    """

    jobs: Count = 1
    cores: Count = 1
    memory_gb: Positive = 4.0
    hours: Positive = 1.0
    queue: str | None = None
    account: str | None = None
    gpus: CountOrNone = 0
    options: tuple[str, ...] = ()
    python: str | None = None
    interface: str | None = None

    def __post_init__(self) -> None:
        check_numbers(self, "")
        for text in (self.queue, self.account, self.python, self.interface, *self.options):
            require(text is None or text.isprintable(), "a text must be one line")

    @property
    def walltime(self) -> str:
        """``hours`` as Slurm writes them."""
        minutes = max(1, round(self.hours * 60))
        return f"{minutes // 60:02d}:{minutes % 60:02d}:00"
