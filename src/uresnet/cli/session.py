"""How a verb runs: where it computes, what it prints, and how it ends.

Exit codes: 0; 2 for errors that the user can correct, or that the system reports (no permission, a full disk, no
memory); 3 for a verdict that --fail-on names; 130 after Ctrl-C; 143 after SIGTERM; 1 for faults of uresnet.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

import typer

from uresnet.cli.combinations import refuse_idle
from uresnet.cli.console import Terminal
from uresnet.core.device import check_device_name, chosen_device, possible_threads
from uresnet.core.files import check_utf8
from uresnet.core.limits import check_memory_limit, is_out_of_memory, keep_freed_memory
from uresnet.errors import BrokenResult, InputWarning, UserError, quoted, told_by_the_command


@dataclass(frozen=True)
class Session:
    """One run of a verb. ``device`` and ``threads`` are what the command line says."""

    terminal: Terminal
    device: str
    threads: int | None

    def load_torch(self, registers: bool = False) -> str:
        """Load torch with the wanted number of threads, and return the device to compute on.

        ``registers``: the verb registers one pair, and what it calls is compiled meanwhile if no run has done so.
        Raises :class:`UserError` for a device that is not here: it would fail only in the middle of the work.
        """
        check_device_name(self.device)
        check_memory_limit()
        keep_freed_memory()
        threads = possible_threads(self.threads)
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is loaded
        self.terminal.begin("load libraries")
        if registers:
            from uresnet.core.first_run import compile_beside

            if compile_beside():
                self.terminal.note("This first run also compiles loops for this computer, and takes longer.")
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        device = chosen_device(self.device)
        self.terminal.close()
        return device

    def device_of_workers(self) -> str:
        """The device that other processes are told: which one "auto" is, each of them finds out where it runs.

        Raises as :meth:`load_torch`, and loads torch to look for a device that is named.
        """
        check_device_name(self.device)
        check_memory_limit()
        return self.device if self.device in ("auto", "cpu") else self.load_torch()


@contextmanager
def session(
    device: str = "cpu",
    threads: int | None = None,
    quiet: bool = False,
    debug: bool = False,
    verbose: bool = False,
) -> Iterator[Session]:
    """Runs a verb: every failure becomes a sentence on standard error and an exit code, every warning about an input a
    sentence."""
    with (
        told_by_the_command(),
        _failures_as_exit_codes(debug),
        closing(Terminal(quiet, verbose)) as terminal,
        _warnings_as_sentences(terminal),
    ):
        for word in sys.argv[1:]:  # the record keeps the command
            check_utf8(word)
        refuse_idle("--quiet", {"--verbose": quiet and verbose})
        yield Session(terminal, device, threads)


def fail(sentence: str, code: int) -> NoReturn:
    """End the command."""
    with suppress(OSError):  # standard error may be a file on a full disk
        print(sentence, file=sys.stderr, flush=True)
    raise typer.Exit(code)


@contextmanager
def _failures_as_exit_codes(debug: bool) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        fail(f"error: {quoted(error, len(str(error)))}", 1 if isinstance(error, BrokenResult) else 2)
    except KeyboardInterrupt as interrupt:
        fail(str(interrupt) or "Interrupted; no partial files are left.", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes
        raise typer.Exit(1) from None
    except (typer.Exit, SystemExit):
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        reason = _reason_of_system(error)
        if reason is not None:
            fail(f"error: {reason}", 2)
        message = str(error) if len(str(error)) <= 300 else f"{str(error)[:300]} …"
        fail(f"unexpected error: {type(error).__name__}: {message} (add --debug to see the traceback)", 1)


def _reason_of_system(error: Exception) -> str | None:
    """What the system refused, as a sentence; None for a fault of uresnet."""
    if is_out_of_memory(error):
        return "The memory does not suffice; close other programs, give smaller images, or use a computer with more."
    if isinstance(error, OSError) and error.errno is not None:
        place = "A file, or standard output," if error.filename is None else str(os.fsdecode(error.filename))[:200]
        return f"{place} cannot be used ({error.strerror}); check its permissions, its folder and the free space."
    return None


@contextmanager
def _warnings_as_sentences(terminal: Terminal) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        show = warnings.showwarning

        def show_sentence(message: Warning | str, category: type[Warning], *where: object) -> None:
            if issubclass(category, InputWarning):
                terminal.warn([str(message)])
            else:
                show(message, category, *where)  # type: ignore[arg-type]

        warnings.showwarning = show_sentence  # type: ignore[assignment]
        yield
