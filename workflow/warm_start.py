"""Jobs on this machine are copies of one process that has loaded the libraries: loading takes longer than most jobs.

Snakemake starts an interpreter for each script, which loads torch, pandas and matplotlib anew: three seconds of
processor, hundreds of times. Here one process loads them once; each script runs in a copy of it (fork), with its own
memory, its own exit and its own benchmark, as before. Whatever does not fit starts as it always did: several threads, a
GPU, conda, containers, other systems than Linux, and jobs that begin before the libraries are loaded.
"""

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from contextlib import nullcontext
from types import ModuleType

# Of others only: stages find the project's own code as it is when they start. None of these starts a thread of Python.
LIBRARIES = (
    "matplotlib.backends.backend_agg", "matplotlib.figure", "numba", "numpy", "pandas", "pyarrow.pandas_compat",
    "pyarrow.parquet", "pydantic.json_schema", "pydantic.main", "rich", "scipy.ndimage", "scipy.stats",
    "sklearn.linear_model", "sklearn.metrics", "snakemake.io", "snakemake.iocontainers", "snakemake.logging", "torch",
    "yaml",
)  # fmt: skip
THREADS = (
    "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
"""What Snakemake sets to a job's threads; it is read when a library is loaded, and warm jobs have one thread."""
FEWEST_JOBS = 8
"""Of a run: with fewer, all start the usual way, since loading the libraries once more would gain nothing."""


# In Snakemake ---------------------------------------------------------------------------------------------------------


def install(jobs: int) -> None:
    """Let the scripts of this run, which has so many jobs, start warm where they can."""
    from snakemake.script import PythonScript

    if jobs < FEWEST_JOBS or sys.platform != "linux":
        return
    folder = tempfile.TemporaryDirectory(prefix="xiqa-", dir="/tmp")  # only its owner may enter; a short path
    address = os.path.join(folder.name, "warm")
    command = [sys.executable, __file__, address, str(os.getpid())]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=os.environ | dict.fromkeys(THREADS, "1"))
    atexit.register(folder.cleanup)
    atexit.register(process.terminate)
    cold_start = PythonScript.execute_script

    def execute_script(self, fname: str, edit: bool = False) -> None:
        elsewhere = self.conda_env or self.container_img or self.env_modules or self.resources.get("gpu")
        connection = None if edit or elsewhere or self.threads != 1 else _connection(address)
        if connection is None:
            return cold_start(self, fname, edit)
        with connection:
            _run_warm(connection, fname, self.resources.get("tmpdir"), self.bench_record)

    PythonScript.execute_script = execute_script


def _connection(address: str) -> socket.socket | None:
    """A connection for one job; None as long as the libraries are being loaded, or where they could not be."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        return None
    return connection


def _run_warm(connection: socket.socket, script: str, temporary: str | None, record) -> None:
    """Run a script in a copy of the process behind a connection; CalledProcessError where it fails."""
    from snakemake.benchmark import benchmarked

    environment = dict.fromkeys(("TMPDIR", "TMP", "TEMPDIR", "TEMP"), temporary) if temporary else {}
    request = {"script": script, "folder": os.getcwd(), "environment": environment}
    with connection.makefile("rw") as stream:
        print(json.dumps(request), file=stream, flush=True)
        job = stream.readline()  # its process; nothing where it could not be made
        with benchmarked(int(job), record) if job and record is not None else nullcontext():
            code = stream.read()  # at its end; nothing where it was killed
    if code != "0":
        raise subprocess.CalledProcessError(int(code or -signal.SIGKILL), [sys.executable, script])


# In the process that jobs are copies of -------------------------------------------------------------------------------


def serve(address: str, parent: int) -> socket.socket:
    """Load the libraries, then make a copy of this process for each connection; returns in the copies only.

    It ends with the process that started it.
    """
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what the copies share is not searched for garbage, and so stays shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen(128)
    listener.settimeout(1)
    os.rename(f"{address}.new", address)  # from now on jobs find it
    while os.getppid() == parent:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return connection
        connection.close()
    sys.exit()


def run_script(connection: socket.socket) -> None:
    """Run the script that a connection asks for as the main module of this process, and tell how it ended."""
    connection.settimeout(None)
    stream = connection.makefile("rw")
    request = json.loads(stream.readline())
    print(os.getpid(), file=stream, flush=True)
    ended = [1]
    # Registered first, called last: when it is told, all else has been done.
    atexit.register(lambda: (stream.write(str(ended[0])), stream.flush()))
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    script = request["script"]
    sys.argv[:], sys.path[0] = [script], os.path.dirname(script)
    main = ModuleType("__main__")
    main.__file__ = script
    sys.modules["__main__"] = main
    try:
        with open(script, encoding="utf-8") as file:
            exec(compile(file.read(), script, "exec"), main.__dict__)
        ended[0] = 0
    except SystemExit as end:
        ended[0] = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:  # told as the interpreter tells it, without this file
        traceback.print_exception(error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))


if __name__ == "__main__":
    run_script(serve(sys.argv[1], parent=int(sys.argv[2])))
