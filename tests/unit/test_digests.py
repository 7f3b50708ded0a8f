"""Which stages an edit reruns: constants, tables and modules in a copied tree, and the digests before and after."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from xiqa import provenance
from xiqa.registry import LAYOUTS, METHODS, WITH_TWIN, module_of

CONFIG, REGISTRY = "src/xiqa/config.py", "src/xiqa/registry.py"


class Tree:
    """A copy of the code in which files are edited, and the stages whose digests an edit changes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.edits = 0
        # What each file is now: 0 as it was, else the number of its edit; and digests of the tree as it was.
        self.versions: Counter[Path] = Counter()
        self.as_it_was: dict[str, dict[str, str]] = {}

    def digests(self, **options) -> dict[str, str]:
        scripts = sorted((self.folder / "workflow/scripts").glob("*/*.py"))
        return {script.stem: provenance.code_digest(script, **options) for script in scripts}

    @contextmanager
    def edited(self, name: str, old: str, new: str) -> Iterator[None]:
        """One text in a file replaced by another, as long as the block lasts."""
        path = self.folder / name
        text = path.read_text()
        assert old in text, f"{name} no longer has {old!r}"
        path.write_text(text.replace(old, new, 1))
        self.edits += 1
        version, self.versions[path] = self.versions[path], self.edits
        yield
        path.write_text(text)
        self.versions[path] = version

    def changed(self, name: str, old: str, new: str, **options) -> set[str]:
        """Stages that another text in a file reruns."""
        before = self.as_it_was.get(str(options))
        if before is None or any(self.versions.values()):
            before = self.digests(**options)
        if not any(self.versions.values()):
            self.as_it_was[str(options)] = before
        with self.edited(name, old, new):
            after = self.digests(**options)
        return {stage for stage in before if before[stage] != after[stage]}


@pytest.fixture(scope="module")
def tree(root, tmp_path_factory) -> Iterator[Tree]:
    folder = tmp_path_factory.mktemp("tree")
    for part in ("src", "workflow/scripts"):
        shutil.copytree(root / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    tree = Tree(folder)
    anew = provenance._read.__wrapped__
    read = cache(lambda path, version: anew(path))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(provenance, "SOURCE", folder / "src")
        patched.setattr(provenance, "_read", lambda path: read(path, tree.versions[path]))
        yield tree


SPLIT = "workflow/scripts/data/split.py"
FIRST_IMPORT = "from xiqa.config import Split\n"


def test_an_edited_constant_reruns_the_stages_that_import_it(tree):
    stages = tree.changed(REGISTRY, 'wiped out", falling=True, ', 'wiped out", ')
    assert {"score_localisation", "score_fidelity", "draw_saliency"} <= stages
    assert not stages & {"train", "train_network", "explain_network", "prepare", "sample", "tabulate_scores"}


def test_a_constant_counts_where_it_is_part_of_another(tree):
    stages = tree.changed(
        REGISTRY, 'SMOOTHGRADS = ("smoothgrad_squared", "smoothgrad")', 'SMOOTHGRADS = ("smoothgrad",)'
    )
    assert {"score_fidelity", "score_localisation", "compare_methods"} <= stages  # METHODS_BROCKI has it
    assert "draw_saliency" not in stages


def test_a_function_of_the_configuration_counts_for_its_callers(tree):
    stages = tree.changed(REGISTRY, 'removesuffix("_smooth").removesuffix("_top")', 'removesuffix("_smooth")')
    assert "explain_network" in stages
    assert not stages & {"prepare", "train", "score_fidelity"}


def test_a_method_of_a_section_counts_and_its_keys_do_not(tree):
    key = '    noise: Literal["published", "physical"] = Field('
    assert tree.changed(CONFIG, key, f"    new: int = Field(3)\n{key}") == set()
    stages = tree.changed(CONFIG, "{self.exposure_mas:g}_mas{level}", "{self.exposure_mas:g}mas{level}")
    assert {"sample", "read_out"} <= stages
    assert not stages & {"train_network", "split", "fit_curves"}


def test_a_new_method_reruns_no_stage_of_the_others(tree):
    line, entries = '    "rise": Method("rise", ', ["gradient", "rise"]
    assert tree.changed(REGISTRY, line, f'    "new": Method("new", "new", "new"),\n{line}', entries=entries) == set()
    moved = tree.changed(REGISTRY, line, '    "rise": Method("occlusion", ', entries=entries)
    assert "explain_network" in moved


def test_an_empty_line_in_a_table_reruns_nothing(tree):
    table = "src/xiqa/metrics/maps/tables/published.csv"
    assert tree.changed(table, "\n", "\n\n") == set()


def test_a_table_counts_for_the_module_that_names_it_alone(tree):
    table = tree.folder / "src/xiqa/metrics/maps/tables/published.csv"
    line = table.read_text().splitlines()[1]
    stages = tree.changed(str(table.relative_to(tree.folder)), line, f"{line} corrected")
    # Those that write or draw the papers' numbers beside ours, and none that computes ours.
    assert stages == {
        "compare_methods", "tabulate_scores", "tabulate_classifiers", "score_predictions", "draw_scores",
    }  # fmt: skip
    spectrum = tree.folder / "src/xiqa/cdmam/tables/spectrum_w.csv"
    line = spectrum.read_text().splitlines()[1]
    stages = tree.changed(str(spectrum.relative_to(tree.folder)), line, line.replace(line.split(",")[1], "0.5", 1))
    assert {"sample", "read_out", "original"} <= stages
    assert not stages & {"fit_curves", "train", "read_recordings", "score_fidelity"}


def test_a_module_loaded_by_name_counts(tree):
    new = "from __future__ import annotations\n\n_EDITED = 1"
    file, module = "src/xiqa/saliency/omig.py", ["xiqa.saliency.omig"]
    assert "explain" in tree.changed(file, "from __future__ import annotations", new, modules=module)
    assert "explain" not in tree.changed(file, "from __future__ import annotations", new)


def test_a_module_by_name_that_does_not_exist_is_refused(tree):
    with pytest.raises(ValueError, match=r"needs the module xiqa\.datasets\.twins\.nowhere, which does not exist"):
        tree.digests(modules=["xiqa.datasets.twins.nowhere"])


def test_an_import_of_a_module_that_does_not_exist_is_refused(tree):
    wanted = pytest.raises(ValueError, match=r"split\.py: needs the module xiqa\.nowhere")
    with tree.edited(SPLIT, FIRST_IMPORT, f"{FIRST_IMPORT}import xiqa.nowhere\n"), wanted:
        tree.digests()


def test_a_name_that_is_loaded_when_it_is_used_is_refused(tree):
    """`xiqa.metrics.pointing_game` is found by a function of the package: the digest would not see its code."""
    wanted = pytest.raises(ValueError, match=r"needs pointing_game of xiqa\.metrics, which does not define it")
    with tree.edited(SPLIT, FIRST_IMPORT, f"{FIRST_IMPORT}from xiqa.metrics import pointing_game\n"), wanted:
        tree.digests()


def test_what_only_type_checkers_read_reruns_nothing(tree):
    old = "    from xiqa.figures.show import show\n"
    assert (
        tree.changed("src/xiqa/saliency/__init__.py", old, f"{old}    from xiqa.figures.style import UNIT\n") == set()
    )


def test_the_whole_configuration_counts_where_it_is_imported_whole(tree):
    key = '    noise: Literal["published", "physical"] = Field('
    with tree.edited(SPLIT, FIRST_IMPORT, "import xiqa.config\n"):
        assert tree.changed(CONFIG, key, f"    new: int = Field(3)\n{key}") == {"split"}


DIGESTS = """
import sys
from pathlib import Path
from xiqa.provenance import code_digest
for script in sorted(Path(sys.argv[1]).glob("*/*.py")):
    print(script.stem, code_digest(script))
"""


def test_digests_are_the_same_in_every_process(root):
    found = [
        subprocess.run(
            [sys.executable, "-c", DIGESTS, str(root / "workflow/scripts")], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root / "src")},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert found[0].splitlines() == found[1].splitlines()
    assert len(found[0].splitlines()) > 50


def test_every_module_that_a_configuration_can_name_exists():
    names = [
        *map(module_of, METHODS),
        *(f"xiqa.datasets.{name}" for name in LAYOUTS),
        *(f"xiqa.datasets.twins.{name}" for name in WITH_TWIN),
    ]
    assert [name for name in names if provenance._module_path(provenance.SOURCE, name) is None] == []


def test_formats_with_a_twin_are_those_that_have_a_module(root):
    modules = {path.stem for path in (root / "src/xiqa/datasets/twins").glob("*.py")}
    assert modules & set(LAYOUTS) == set(WITH_TWIN)


def test_every_data_file_of_the_package_counts_for_a_module():
    modules = (provenance.SOURCE / "xiqa").rglob("*.py")
    named = {data for path in modules for data in provenance._named_data(provenance.SOURCE, path)}
    assert named == set(provenance._data_files(provenance.SOURCE))


def test_what_is_remembered_of_files_gives_the_same_digests(root, tmp_path, monkeypatch):
    memory, scripts = tmp_path / "there is none" / "code.json", sorted((root / "workflow/scripts/score").glob("*.py"))
    read, files = provenance._read, []
    monkeypatch.setattr(provenance.atexit, "register", lambda write: write)

    def digests() -> tuple[list[str], int]:
        """Of all stages, and how many files were parsed."""
        files.clear()
        monkeypatch.setattr(provenance, "_read", lambda path: (files.append(path), read(path))[1])
        provenance._remembered.cache_clear()
        found = [provenance.code_digest(script, ["xiqa.saliency.omig"], entries=["omig"]) for script in scripts]
        return found, len({*files})

    plain, _ = digests()
    monkeypatch.setattr(provenance, "_memory", None)
    write = provenance.remember(memory)
    first, parsed = digests()
    write()
    provenance.remember(memory)
    second, parsed_again = digests()
    assert first == second == plain
    # The second time only the files are parsed of which names count one by one.
    assert parsed_again < parsed / 10
    kept = json.loads(memory.read_text())
    kept["files"] = {name: ["0", [], []] for name in kept["files"]}
    for broken in ("{", json.dumps(kept | {"valid_for": "another version"})):
        memory.write_text(broken)
        provenance.remember(memory)
        assert digests()[0] == plain
