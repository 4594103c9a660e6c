"""How a verb runs: where it computes, what it prints, and how it ends.

Exit codes: 0; 2 for errors that the user can correct; 130 after Ctrl-C; 143 after SIGTERM; 1 for faults of uresnet.
"""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

import typer

from uresnet.cli.console import Terminal
from uresnet.errors import InputWarning, UserError


@dataclass(frozen=True)
class Session:
    """One run of a verb. ``device`` and ``threads`` are what the command line says."""

    terminal: Terminal
    device: str
    threads: int | None

    def load_torch(self) -> str:
        """Load torch with the wanted number of threads, and return the device to compute on.

        Raises :class:`UserError` for a device that is not here: it would fail only in the middle of the work.
        """
        kind, _, number = self.device.partition(":")
        if kind not in ("auto", "cpu", "cuda", "mps") or (number and (kind != "cuda" or not number.isdigit())):
            raise UserError(f"There is no device {self.device}; choose auto, cpu, cuda, cuda:N or mps.")
        _keep_freed_memory()
        if self.threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(self.threads)  # read when torch is loaded
        import torch

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if kind == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
            raise UserError(
                f"{self.device} is not here: {torch.cuda.device_count()} CUDA devices are visible; try --device cpu."
            )
        if kind == "mps" and not torch.backends.mps.is_available():
            raise UserError("mps is not available on this computer; try --device cpu.")
        return self.device


@contextmanager
def session(
    device: str = "cpu", threads: int | None = None, quiet: bool = False, debug: bool = False
) -> Iterator[Session]:
    """Runs a verb: every failure becomes a sentence on standard error and an exit code, every warning about an input a
    sentence."""
    with _failures_as_exit_codes(debug), closing(Terminal(quiet)) as terminal, _warnings_as_sentences(terminal):
        yield Session(terminal, device, threads)


def fail(sentence: str, code: int) -> NoReturn:
    """End the command."""
    print(sentence, file=sys.stderr)
    raise typer.Exit(code)


@contextmanager
def _failures_as_exit_codes(debug: bool) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        fail(f"error: {error}", 2)
    except KeyboardInterrupt:
        fail("Interrupted; nothing was written.", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes
        raise typer.Exit(1) from None
    except (typer.Exit, SystemExit):
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        fail(f"unexpected error: {type(error).__name__}: {error} (add --debug to see the traceback)", 1)


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


def _keep_freed_memory() -> None:
    """Asks the C library to reuse large blocks instead of returning each to the system, which has to clear them again.

    On a CPU this halves the time of a network whose feature maps are large. Elsewhere than on glibc nothing happens.
    """
    top_pad, trim_threshold, mmap_max = -2, -1, -4  # M_… in malloc.h
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 2**26)
