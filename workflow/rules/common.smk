# What all rules share: the typed configuration, paths, and digests of code.
import os
import sys
from importlib.util import find_spec

PROJECT = workflow.basedir
sys.path[:0] = [f"{PROJECT}/src", f"{PROJECT}/workflow"]

from xiqa.config import load_config, own_images_alone
from xiqa.registry import (
    METHODS,
    MODULES,
    PUBLISHED_MAPS,
    WITHOUT_RELU,
    added,
    base_method,
    method_of,
    module_of,
    reader_module,
    score_module,
    scores,
)
from xiqa.provenance import code_digest, remember
from warm_start import install as install_warm_start

OWN_IMAGES = own_images_alone(config)
if OWN_IMAGES:

    configfile: f"{workflow.basedir}/config/own_images.yaml"


study = load_config(config)
cdmam = study.cdmam
RESULTS = study.results
CDMAM = f"{RESULTS}/cdmam"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"

# Stages are processes of their own: they find the library, draw without a screen, and use the threads they were given.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# They keep freed memory, in huge pages (glibc; elsewhere nothing happens): large arrays that come and go for every batch
# are else returned to the system and faulted in again, which takes up to half of the time.
MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
os.environ.update(
    {name: str(study.compute.threads) for name in THREADS}
    | MEMORY
    | {"PYTHONPATH": f"{PROJECT}/src", "MPLBACKEND": "Agg"}
)


remember(".snakemake/xiqa/code.json")

# The jobs behind which most others wait start first, so that all cores are busy to the end.
LONGEST_CHAIN = 10


def code(script, *modules, entries=None):
    """Digest of a stage: its script, the library code below it, modules loaded by name, and its environment.

    `entries` are the methods that it knows, where it takes others of the tables of all methods for none of its own. Of a
    module of another package the file counts.
    """
    foreign = [find_spec(module).origin for module in modules if not module.startswith("xiqa.")]
    own = [module for module in modules if module.startswith("xiqa.")]
    files = [f"{PROJECT}/envs/xiqa.yaml", *foreign]
    return code_digest(f"{PROJECT}/workflow/scripts/{script}", own, files, entries)


def plain(section, *without):
    """A configuration section as a plain dictionary, the form in which it becomes a parameter of a rule."""
    return section.model_dump(mode="json", exclude=set(without))


wildcard_constraints:
    group="[a-z0-9_]+",
    setting="[a-z0-9_.-]+",
    member="[0-9]+",
    index="[0-9]+",
    shard="[0-9]+",
    method="|".join(METHODS | added("xiqa.methods")),
    image="[a-z0-9_]+-[0-9]+(-rotated)?",
