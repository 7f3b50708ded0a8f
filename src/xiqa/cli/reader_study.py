"""`xiqa reader-study`: evaluation by people."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from xiqa.cli.common import VERBS, count


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe `xiqa reader-study export` and `analyse`."""
    verb = commands.add_parser("reader-study", help=VERBS["reader-study"])
    steps = verb.add_subparsers(required=True, metavar="STEP")
    export = steps.add_parser(
        "export",
        help="write blinded cases, and a form for each reader that works offline",
        description="Chooses test images of a finished study, evenly over classes and patients, and writes a form for "
        "each reader (HTML, with its pictures in it), the cases as PNG, and the key in a folder of its own. Give "
        "readers their form and nothing else.",
    )
    export.add_argument("study", metavar="STUDY", type=Path, help="results of a data set, such as results/brain_tumor")
    export.add_argument("--out", required=True, type=Path, help="empty folder for the study")
    export.add_argument(
        "--arms", nargs="+", default=["image", "map:grad_cam"], metavar="ARM",
        help="what readers see: image, prediction, map:METHOD, or some joined by + (default: %(default)s)",
    )  # fmt: skip
    export.add_argument(
        "--task", choices=["label", "network"], default="label",
        help="what is asked: the class of the image, or what the network will say of it (default: %(default)s)",
    )  # fmt: skip
    export.add_argument("--cases", type=count(4), default=40, help="number of cases (default: %(default)s)")
    export.add_argument("--readers", type=count(1), default=3, help="number of readers (default: %(default)s)")
    export.add_argument("--network", help="architecture, where the study has several")
    export.add_argument("--seed", type=count(0), default=0, help="seed of cases, arms and orders")
    export.set_defaults(run=run_export)
    analyse = steps.add_parser(
        "analyse",
        help="accuracy, agreement and time from the files of the readers",
        description="Reads answers/*.csv of a study, or the files named, and writes tables, findings and a list of all "
        "answers that are missing or could not be used.",
    )
    analyse.add_argument("folder", metavar="DIR", type=Path, help="folder that export wrote")
    analyse.add_argument("answers", metavar="FILE", type=Path, nargs="*", help="files of the readers")
    analyse.add_argument("--out", type=Path, help="folder for the results (default: DIR/results)")
    analyse.set_defaults(run=run_analyse)


def run_export(options: argparse.Namespace) -> int:
    """Write the study; returns the exit code."""
    from xiqa.reader_study.export import export, material
    from xiqa.reader_study.plan import methods_of

    found = material(options.study, methods_of(*options.arms), options.network)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("drawing")
        readings = export(
            found, options.out, arms=options.arms, task=options.task, cases=options.cases, readers=options.readers,
            seed=options.seed, progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    if found.unforeseen:
        print(
            f"warning: the maps of {found.unforeseen} test images were made for the class of the label, not the "
            "network's answer: they give the truth away. Use a study with saliency.explained_class: predicted_class."
        )
    each = len(readings) // options.readers
    print(f"{options.out}: {options.readers} forms of {each} cases, reader-1.html and so on.")
    print(
        f"Keep {options.out / 'key'} from the readers, and put the files that they save into {options.out / 'answers'}."
    )
    return 0


def run_analyse(options: argparse.Namespace) -> int:
    """Write the results, and say what they show; returns the exit code."""
    from xiqa.figures.reader_study import plot_accuracy
    from xiqa.files import write_figure, write_table
    from xiqa.reader_study.analyse import (
        accuracy_by_arm,
        arm_name,
        compare_arms,
        describe,
        read_answers,
        reader_agreement,
    )
    from xiqa.report.pages import write_findings

    out = options.out or options.folder / "results"
    answers = read_answers(options.folder, options.answers or None)
    accuracy, comparison, agreement = accuracy_by_arm(answers), compare_arms(answers), reader_agreement(answers)
    tables = {"accuracy": accuracy, "comparison": comparison, "agreement": agreement, "problems": answers.problems}
    for name, table in tables.items():
        write_table(out / f"{name}.csv", table)
    write_figure(out / "accuracy.png", plot_accuracy(accuracy.assign(name=accuracy["arm"].map(arm_name))))
    findings = describe(answers, accuracy, comparison, agreement)
    title = f"What the readers' answers show ({answers.study['data']} images, {answers.study['network']})"
    write_findings(title, findings, out / "findings.html", out / "findings.md", picture=out / "accuracy.png")
    for _, said in findings:
        if isinstance(said, str):
            print(said)
    print(f"results: {out}/findings.html")
    return 0
