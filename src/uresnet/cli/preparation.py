"""``uresnet prepare``: a training set from images and label maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uresnet.cli.combinations import refuse_idle
from uresnet.cli.options import (
    BrainOption,
    DebugOption,
    DeviceOption,
    OverwriteOption,
    QuietOption,
    ThreadsOption,
)
from uresnet.cli.session import Session, session
from uresnet.core.choices import LabelConvention
from uresnet.core.files import check_output_file
from uresnet.errors import counted

if TYPE_CHECKING:
    from uresnet.training.data.prepare import PrepareOptions
    from uresnet.training.data.sources import Skipped, Source

DataOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="DATA", help="The folder to write.", show_default=False)
]
SeedOption = Annotated[int | None, typer.Option(metavar="N", help="The seed of the random split.", show_default="0")]
NameOption = Annotated[str, typer.Option(help="The name of the data, for the cards of models.", show_default="none")]
LicenceOption = Annotated[
    str, typer.Option(help="The licence of the data, which trained models inherit.", show_default="none")
]
ConformOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Conform images as this model does: default, paper, or a model file.",
        show_default="as in the paper",
    ),
]


def pairs(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE",
            help="A tab-separated table with the columns image and labels; subject, split, mask, id, t1 are optional.",
            show_default=False,
        ),
    ],
    output: DataOption,
    labels: Annotated[LabelConvention, typer.Option(help="The meaning of the label values.")] = "freesurfer",
    brain: BrainOption = "auto",
    split: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="A table (id, split) that says the split of each scan.",
            show_default="random by person",
        ),
    ] = None,
    seed: SeedOption = None,
    name: NameOption = "",
    licence: LicenceOption = "",
    conform: ConformOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Prepare the images and label maps that a table lists."""
    with session(device, threads, quiet, debug) as run:
        _check_seed(seed, split)
        chosen = run.load_torch()
        from uresnet.training.data.prepare import PrepareOptions, conform_spec_of
        from uresnet.training.data.sources import sources_from_table
        from uresnet.training.data.splits import with_random_splits, with_splits_of

        sources = sources_from_table(table)
        options = PrepareOptions(labels, conform_spec_of(conform), brain, chosen, name, licence)
        sources = with_splits_of(sources, split) if split else with_random_splits(sources, seed or 0)
        _prepare(run, sources, [], output, options)


def freesurfer(
    subjects_dir: Annotated[
        Path, typer.Argument(metavar="SUBJECTS_DIR", help="A folder of FreeSurfer subjects.", show_default=False)
    ],
    output: DataOption,
    split: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE|paper|paper-by-person",
            help="A table (id, split) that says the split of each scan, or the OASIS-3 sessions of the paper: split as "
            "published (paper), or so that no person is in two splits (paper-by-person).",
            show_default="random by person",
        ),
    ] = None,
    seed: SeedOption = None,
    name: NameOption = "",
    licence: LicenceOption = "",
    conform: ConformOption = None,
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Prepare FreeSurfer subjects: the image mri/orig.mgz inside brainmask.mgz, with the labels of aseg.mgz."""
    with session("cpu", threads, quiet, debug) as run:
        _check_seed(seed, split)
        run.load_torch()
        from uresnet.training.data.prepare import PrepareOptions, conform_spec_of
        from uresnet.training.data.sources import sources_from_subjects
        from uresnet.training.data.splits import (
            PAPER,
            PAPER_BY_PERSON,
            PAPER_SPLIT_WARNING,
            paper_split_name,
            with_paper_splits,
            with_random_splits,
            with_splits_of,
        )

        sources, skipped = sources_from_subjects(subjects_dir)
        if str(split) in (PAPER, PAPER_BY_PERSON):
            sources, others = with_paper_splits(sources, by_person=str(split) == PAPER_BY_PERSON)
            skipped += others
            if str(split) == PAPER:
                name = paper_split_name(name)
                run.terminal.warn([PAPER_SPLIT_WARNING])
        else:
            sources = with_splits_of(sources, split) if split else with_random_splits(sources, seed or 0)
        options = PrepareOptions(spec=conform_spec_of(conform), name=name, licence=licence)
        _prepare(run, sources, skipped, output, options)


def heads(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder of label maps of whole heads.", show_default=False)
    ],
    output: DataOption,
    split: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE", help="A table (id, split) that says the split of each head.", show_default="random"
        ),
    ] = None,
    seed: SeedOption = None,
    name: NameOption = "",
    licence: LicenceOption = "",
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Prepare label maps of whole heads, without images, for uresnet train brain and uresnet train open.

    They hold FreeSurfer ids in the brain, and any other values in the tissues around it.
    """
    with session("cpu", None, quiet, debug) as run:
        _check_seed(seed, split)
        run.load_torch()
        from uresnet.config import ConformSpec
        from uresnet.training.data.label_maps import HEAD_AXES
        from uresnet.training.data.prepare import PrepareOptions
        from uresnet.training.data.sources import sources_from_heads
        from uresnet.training.data.splits import with_head_splits, with_splits_of

        sources = sources_from_heads(folder)
        sources = with_splits_of(sources, split) if split else with_head_splits(sources, seed or 0)
        spec = ConformSpec(axis_codes=HEAD_AXES)
        _prepare(run, sources, [], output, PrepareOptions(spec=spec, name=name, licence=licence, heads=True))


def bundle(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A folder that uresnet prepare wrote.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.", show_default=False)
    ],
    label_maps: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Label maps to make images from, FreeSurfer ids.", show_default="none"),
    ] = None,
    stroke_masks: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Masks whose shapes strokes get in training images.", show_default="none"),
    ] = None,
    most: Annotated[float, typer.Option(min=0.1, metavar="MB", help="The largest size of the file.")] = 45,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Make one small file of a training set, label maps and masks, to train from on another machine."""
    with session("cpu", None, quiet, debug) as run:
        check_output_file(output, (".tar.xz",), (data, label_maps, stroke_masks), overwrite)
        run.load_torch()
        from uresnet.training.data.bundle import Extras, number_of_arrays, write_bundle
        from uresnet.training.data.dataset import open_dataset
        from uresnet.training.data.label_maps import read_label_maps, read_shapes

        dataset = open_dataset(data)
        maps = read_label_maps(label_maps, dataset.conform) if label_maps else None
        extras = Extras(maps, tuple(read_shapes(stroke_masks)) if stroke_masks else ())
        with run.terminal.bar("compressing", number_of_arrays(dataset, extras)) as advance:
            size = write_bundle(dataset, extras, output, round(most * 1e6), lambda name: advance())
        counts = (
            (len(dataset.scans), "scan"),
            (0 if maps is None else len(maps), "label map"),
            (len(extras.shapes), "mask"),
        )
        held = ", ".join(counted(count, noun) for count, noun in counts)
        run.terminal.say(f"{output}  {size / 1e6:.1f} MB: {held}\nTrain with: uresnet train CONFIG --data {output}")


def _check_seed(seed: int | None, split: Path | None) -> None:
    if split is not None:
        refuse_idle("--split, which leaves nothing to chance", {"--seed": seed is not None})


def _prepare(
    run: Session, sources: Sequence[Source], skipped: Sequence[Skipped], folder: Path, options: PrepareOptions
) -> None:
    from uresnet.training.data.prepare import FEWEST, SKIPPED, SPLIT, prepare

    with run.terminal.bar("preparing", len(sources)) as advance:
        prepared = prepare(sources, folder, options, skipped, lambda scan: advance())
    warn, say = run.terminal.warn, run.terminal.say
    warn(f"{scan.id} left out: {scan.reason}" for scan in prepared.skipped)
    warn(_shortcomings(prepared.split_sizes, options))
    if prepared.skipped:
        warn([f"Scans left out: {len(prepared.skipped)}; {folder / SKIPPED} lists them."])
    counts = ", ".join(f"{count} {name}" for name, count in prepared.split_sizes.items())
    size = " × ".join(map(str, prepared.shape))
    earlier = f" ({prepared.reused} from an earlier run)" if prepared.reused else ""
    say(f"{counted(len(prepared.scans), 'scan')} of {size} voxels{earlier}: {counts}\nsplit  {folder / SPLIT}")
    if prepared.split_sizes.get("train", 0) >= FEWEST:
        say(f"Train with: uresnet train {'brain (or open)' if options.heads else 'CONFIG'} --data {folder}")


def _shortcomings(sizes: Mapping[str, int], options: PrepareOptions) -> Iterator[str]:
    """What a training from so many scans in each split will be short of."""
    from uresnet.training.data.prepare import FEWEST

    what = "head" if options.heads else "scan"
    if sizes.get("train", 0) < FEWEST:
        why = "a training needs at least two" if options.heads else "a training needs a pair"
        yield f"The split train has {counted(sizes.get('train', 0), what)}; {why}: prepare more, or give --split."
    if not options.heads and sizes.get("val") == 1:
        yield (
            "The split val has one scan, and networks that take a pair are validated on two: give --split, or prepare "
            "more."
        )
    if not options.licence:
        yield (
            "No licence of the data is given, and the cards of models trained on them will name none: give --licence."
        )
