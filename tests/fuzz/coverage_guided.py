"""Coverage-guided damage to the files of one reader, by atheris (``pip install 'uresnet[fuzz]'``).

``make fuzz-guided READER="points .csv" FUZZ=-runs=100000``: the fuzzer keeps what reaches new lines of the package and
stops at the first read that ends in neither a result nor a ``UserError``. Its options are libFuzzer's.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

import uresnet.core.ops  # noqa: F401  its kernels are compiled, which they are not when they count what they reach

with atheris.instrument_imports(include=["uresnet"]):
    from fuzz.readers import readers
    from fuzz.seeds import write_seeds
    from fuzz.trials import Trials


def main() -> None:
    """``python -m fuzz.coverage_guided READER [libFuzzer's options]``."""
    name, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="uresnet-fuzz-") as folder:
        seeds, corpus = Path(folder) / "seeds", Path(folder) / "corpus"
        write_seeds(seeds)
        trials = Trials(readers()[name], seeds, Path(folder) / "work")
        corpus.mkdir()
        (corpus / "seed").write_bytes(trials.inner())

        def one(content: bytes) -> None:
            trials.target.write_bytes(trials.packed(content))
            outcome = trials.read()
            if outcome.failed:
                raise AssertionError(f"{outcome.kind}: {outcome.detail}")

        failures = Path("build/fuzz/failures")
        failures.mkdir(parents=True, exist_ok=True)
        fixed = [f"-artifact_prefix={failures}/guided-", "-timeout=20", "-rss_limit_mb=4096", "-max_len=1000000"]
        atheris.Setup([sys.argv[0], str(corpus), *fixed, *options], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
