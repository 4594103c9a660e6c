"""``uresnet-bids``: the arguments of every BIDS-App."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from uresnet._version import __version__
from uresnet.cli.cohort import check_model, options_of
from uresnet.cli.combinations import refuse_idle
from uresnet.cli.jobs import end, look_at_target, run_jobs, write_group
from uresnet.cli.main import start
from uresnet.cli.session import Session, session
from uresnet.core.choices import OutputName
from uresnet.errors import UserError

if TYPE_CHECKING:
    from uresnet.cohort.bids import BidsImage
    from uresnet.cohort.jobs import Job, Options, Outcome, Scan

_OUTPUTS: tuple[OutputName, ...] = (
    "transform",
    "inverse",
    "warped",
    "segmentations",
    "tables",
    "volumes",
    "report",
    "mask",
)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the app and exit: 0; 2 for an error that the user can correct; 4 when an image failed."""
    given = _parser().parse_args(arguments)
    start()
    code = 0
    try:
        with session(given.device, given.omp_nthreads, given.quiet, given.debug) as run:
            _group(run, given) if given.analysis_level == "group" else _participant(run, given)
    except typer.Exit as ended:
        code = ended.exit_code
    sys.exit(code)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, as for every other mistake."""
        self.exit(2, f"error: {message[:300]}; see uresnet-bids --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="uresnet-bids",
        description="Segments the T1w images of a BIDS data set, and registers them to a template.",
    )
    add = parser.add_argument
    add("bids_dir", type=Path, help="the root of the data set")
    add("output_dir", type=Path, help="the root of the derivatives; several jobs may share it")
    add("analysis_level", choices=("participant", "group"), help="the images of each participant, or tables over all")
    add("--participant-label", "--participant_label", nargs="+", default=[], metavar="LABEL")
    add("--session-label", "--session_label", nargs="+", default=[], metavar="LABEL")
    add("--bids-filter-file", "--bids_filter_file", type=Path, metavar="FILE", help='JSON: {"t1w": {"run": 1}}')
    add("-w", "--work-dir", "--work_dir", type=Path, metavar="FOLDER", help="default: .work in the derivatives")
    add("--target", type=Path, metavar="FILE", help="register each image to this one; without it, segment only")
    add("--target-name", metavar="NAME", help="the space of the target, such as MNI152NLin6Asym (default: template)")
    add(
        "--subject-anatomical-reference",
        choices=("unbiased", "sessionwise"),
        help="how several sessions of a participant reach the target: through their mean (default), or each alone",
    )
    add("--nprocs", "--n-cpus", "--n_cpus", type=int, metavar="N", help="worker processes (default: one for each core)")
    add("--omp-nthreads", type=int, metavar="N", help="threads of each worker")
    add("--mem", "--mem-mb", "--mem_mb", dest="memory", metavar="SIZE", help="memory for all workers, such as 8GB")
    add("--model", "-m", metavar="NAME|FILE")
    add("--device", default="auto", metavar="auto|cpu|cuda|cuda:N|mps")
    add("--brain", choices=("auto", "none"), default="auto")
    add("--quiet", "-q", action="store_true")
    add("--debug", action="store_true")
    add("--version", action="version", version=f"uresnet {__version__}")
    return parser


def _work(given: argparse.Namespace) -> Path:
    work: Path = given.work_dir or given.output_dir / ".work"
    return work.absolute()


def _participant(run: Session, given: argparse.Namespace) -> None:
    from uresnet.cohort.bids import find_images, jobs_of, people_of, read_filter, write_description
    from uresnet.cohort.local import LocalWorkers
    from uresnet.cohort.run import check_folder
    from uresnet.cohort.table import scan_of
    from uresnet.core.files import check_exist

    if given.target is None:
        of_target = {
            "--target-name": given.target_name is not None,
            "--subject-anatomical-reference": given.subject_anatomical_reference is not None,
        }
        refuse_idle("no --target, without which images are segmented only", of_target)
    target_name = "template" if given.target_name is None else str(given.target_name)
    if not target_name.isalnum():
        raise UserError("--target-name has letters and digits only, as the names of spaces have in BIDS.")
    check_model(run, given.model, True, False)
    filters = read_filter(given.bids_filter_file)
    images = find_images(given.bids_dir, given.participant_label, given.session_label, filters)
    check_exist(given.target)
    if given.output_dir.absolute() == given.bids_dir.absolute():
        raise UserError("The derivatives cannot stand in the data set itself; give another folder for them.")
    if given.output_dir.is_file():
        raise UserError(f"{given.output_dir} is a file; give a folder for the derivatives.")
    check_folder(_work(given))
    options, count = _options(run, given, len(images))
    target = None if given.target is None else scan_of(given.target)
    space = None if target is None else target_name
    look_at_target(run, jobs_of(images, target))
    write_description(given.output_dir, given.bids_dir)

    def do(jobs: Sequence[Job], chosen: Options) -> list[Outcome]:
        return run_jobs(run, jobs, chosen, LocalWorkers(chosen, count))

    joint = given.subject_anatomical_reference != "sessionwise" and target is not None
    people = people_of(images) if joint else {}
    through = {image for own in people.values() for image in own}
    jobs = [job for image in images for job in jobs_of([image], None if image in through else target)]
    outcomes = do(jobs, options)
    _publish(given.output_dir, images, outcomes, options, space, through)
    if target is not None and people:
        outcomes += _register_within(given.output_dir, people, outcomes, options, (target, target_name), do)
    end(run, outcomes, given.output_dir, None)


def _options(run: Session, given: argparse.Namespace, jobs: int) -> tuple[Options, int]:
    from dataclasses import replace

    for value, name in ((given.nprocs, "--nprocs"), (given.omp_nthreads, "--omp-nthreads")):
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}; give a number from 1.")
    memory = f"{given.memory}MB" if given.memory and given.memory.isdecimal() else given.memory
    options, count = options_of(run, _work(given), given.model, jobs, given.nprocs, given.omp_nthreads, memory, "10GB")
    return replace(options, brain=given.brain, outputs=_OUTPUTS), count


def _publish(
    out: Path,
    images: list[BidsImage],
    outcomes: list[Outcome],
    options: Options,
    space: str | None,
    through: set[BidsImage],
) -> None:
    """``through`` are the images that were segmented only, because they reach the target through a mean."""
    from uresnet.cohort.bids import publish

    by_name = {image.name: image for image in images}
    for outcome in outcomes:
        image, files = by_name[outcome.id], list[Path]()
        if outcome.state == "done":
            files = publish(options.folder / outcome.id, image, out, None if image in through else space)
        _log(out, image, outcome, len(files))


def _register_within(
    out: Path,
    people: Mapping[str, list[BidsImage]],
    outcomes: list[Outcome],
    options: Options,
    target: tuple[Scan, str],
    do: Callable[[Sequence[Job], Options], list[Outcome]],
) -> list[Outcome]:
    """Bring the sessions of each person to the target through their mean; what came of each person."""
    from uresnet.cohort.bids import WITHIN, BidsImage, publish, publish_joined, publish_mean
    from uresnet.cohort.jobs import Outcome, Scan
    from uresnet.cohort.within import Person, register_within

    done = {outcome.id for outcome in outcomes if outcome.state == "done"}
    scans = {image.name: Scan(str(image.path.absolute())) for own in people.values() for image in own}
    persons = [
        Person(
            name,
            tuple((image.name, scans[image.name]) for image in own if image.name in done),
            {image.name: options.folder / image.name / "dseg.nii.gz" for image in own},
        )
        for name, own in people.items()
    ]
    found = register_within(persons, target[0], options.folder / WITHIN, options, do)
    ended = []
    for name, result in found.items():
        person = BidsImage(people[name][0].path, (("sub", people[name][0].subject),))
        own = [image for image in people[name] if image.name in result.images]
        files = publish_mean(result.mean, person, out, own) if own else []
        if own:
            files += publish(result.to_target, person, out, target[1], WITHIN, own)
        for image in own:
            files += publish_joined(result.images[image.name], image, out, target[1])
        _log(out, person, result.outcome, len(files))
        ended.append(result.outcome)
        for image in people[name]:
            if result.outcome.state == "done" and image.name in done and image not in own:
                said = "It could not be registered to the mean of its person's images."
                ended.append(Outcome(id=image.name, state="failed", error=said))
                _log(out, image, ended[-1], 0)
    return ended


def _log(out: Path, image: BidsImage, outcome: Outcome, files: int) -> None:
    from uresnet.cohort.bids import append_log

    said = outcome.error or f"verdict {outcome.verdict}, {outcome.seconds} s, {files} files"
    append_log(out, image, f"{outcome.time} {outcome.id} {outcome.state}: {said}")


def _group(run: Session, given: argparse.Namespace) -> None:
    """Tables and pages over all participants, beside them."""
    import shutil

    from uresnet.cohort.group import LONG, OUTLIERS, WIDE
    from uresnet.core.files import written_whole

    of_images = ("participant_label", "session_label", "bids_filter_file", "target", "target_name", "model")
    chosen = {f"--{name.replace('_', '-')}": bool(getattr(given, name)) for name in of_images}
    refuse_idle("the level group, whose tables are of all images that are there", chosen)
    work = _work(given)
    write_group(run, work)
    for name in (LONG, WIDE, OUTLIERS, "outliers.html"):
        with written_whole(given.output_dir / f"group_{name}") as beside:
            shutil.copyfile(work / name, beside)
    run.terminal.say(f"Tables in {given.output_dir}: group_{WIDE}, group_{LONG}, group_{OUTLIERS}")
