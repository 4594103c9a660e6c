"""What the command prints: results on standard output; progress, warnings and errors on standard error."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from uresnet.errors import quoted

if TYPE_CHECKING:
    from uresnet.training.events import Event


def of_them(count: int, total: int, noun: str) -> str:
    """``1 of 3 points lies``, ``2 of 3 points lie``, ``The only point lies``."""
    if total == 1:
        return f"The only {noun} lies"
    return f"{count} of {total} {noun}s {'lies' if count == 1 else 'lie'}"


class Terminal:
    """Prints for one verb. ``quiet`` leaves only warnings and errors, ``verbose`` adds details. ``transcript`` is all
    of it, for the log beside the results."""

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        from rich.console import Console  # here, as wherever rich is imported: --help does without

        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.seconds: dict[str, float] = {}
        """Of the stages that have ended."""
        self._spinner = self.console.status("")
        self._stage = ""
        self.transcript: list[str] = []

    def progress(self, stage: str, seconds: float | None) -> None:
        """A stage begins (``seconds`` None) or has ended (a line with its time)."""
        if seconds is None:
            self.begin(stage)
            if not self.console.is_terminal:
                self.console.print(f"  {stage} …")
            return
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self.console.print(f"  {stage:<18}[dim]{seconds:6.1f} s[/dim]")
        self.transcript.append(f"{stage:<18}{seconds:8.2f} s")

    def begin(self, stage: str) -> None:
        """On a terminal, a moving sign with the name of what is being done."""
        self._stage = stage
        self._spinner.update(f"{stage} …")
        if self.console.is_terminal:
            self._spinner.start()

    def step(self, done: int, total: int) -> None:
        """A step of the stage that is running: a bar beside its name, on a terminal only."""
        full = round(20 * done / max(total, 1))
        self._spinner.update(f"{self._stage} {'━' * full}{'·' * (20 - full)} step {done} of {total}")

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """A progress bar, on a terminal only; gives the function that moves it by one."""
        from rich.progress import Progress

        self.close()
        with Progress(console=self.console, disable=self.quiet or not self.console.is_terminal) as bar:
            task = bar.add_task(title, total=total)
            yield lambda: bar.advance(task)

    def note(self, line: str) -> None:
        """A line on the way to the result."""
        self.console.print(line, soft_wrap=True, markup=False)

    def detail(self, line: str) -> None:
        """What only those want to know who look for the reason of something."""
        self.transcript.append(line)
        if self.verbose:
            self.note(f"  {line}")

    def warn(self, sentences: Iterable[str]) -> None:
        self.close()
        for sentence in (quoted(sentence, len(sentence)) for sentence in sentences):
            self.transcript.append(f"warning: {sentence}")
            print(f"warning: {sentence}", file=sys.stderr)

    def alert(self, text: str) -> None:
        """What nobody may miss, whatever else is kept quiet."""
        self.close()
        self.transcript.extend(text.splitlines())
        print(text, file=sys.stderr)

    def say(self, text: str) -> None:
        """A result."""
        self.close()
        self.transcript.extend(text.splitlines())
        if not self.quiet:
            print(text)

    def close(self) -> None:
        """Remove the moving sign, so that nothing is printed beside it."""
        self._spinner.stop()


class TrainingDisplay:
    """Shows a training on standard error, and makes Ctrl-C end it after the present update instead of within it."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        columns = [TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.percentage:>3.0f} %")]
        columns += [TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[terms]}")]
        self._bar = Progress(*columns, console=self.console, disable=quiet or not self.console.is_terminal)
        self._task = self._bar.add_task("training", total=1.0, terms="")
        self._stopping = False
        self._last_printed = -1

    def __enter__(self) -> TrainingDisplay:
        self._handlers = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def __call__(self, event: Event) -> None:
        from uresnet.training.events import StepDone
        from uresnet.training.validation import Validation

        if isinstance(event, StepDone):
            self._show_step(event.fraction, event.epoch, event.terms, str(event))
        elif isinstance(event, Validation):
            best = "  [bold](best so far)[/bold]" if event.is_best else ""
            self.console.print(f"{event}{best}", soft_wrap=True)
        else:
            self.note(f"warning: {event}")

    def _show_step(self, fraction: float, epoch: int, terms: dict[str, float], line: str) -> None:
        shown = " ".join(f"{name} {value:.3f}" for name, value in terms.items())
        self._bar.update(self._task, completed=fraction, description=f"epoch {epoch + 1}", terms=shown)
        twentieth = int(20 * fraction)
        if self._bar.disable and twentieth != self._last_printed:  # no terminal: a line for every twentieth
            self._last_printed = twentieth
            self.console.print(line, soft_wrap=True)

    def note(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False)

    def wants_to_stop(self) -> bool:
        return self._stopping

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._stopping:
            raise KeyboardInterrupt
        self._stopping = True
        self.console.print("Stopping after this update; press Ctrl-C again to stop at once …")
