"""Scripts in copies of a process with loaded libraries end, fail and are killed as those of an own interpreter do."""

import os
import signal
import subprocess
import sys
import time

import pytest
from snakemake.benchmark import BenchmarkRecord

SERVER = "import sys, warm_start as w; w.LIBRARIES = ('json',); w.run_script(w.serve(sys.argv[1], int(sys.argv[2])))"


@pytest.fixture(scope="module")
def warm_start(root):
    sys.path.insert(0, str(root / "workflow"))
    import warm_start

    yield warm_start
    sys.path.remove(str(root / "workflow"))


@pytest.fixture(scope="module")
def server(root, tmp_path_factory):
    """Address and process of a server."""
    address = tmp_path_factory.mktemp("s") / "warm"
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, address, str(os.getpid())], env=os.environ | {"PYTHONPATH": "workflow"}, cwd=root
    )
    while not address.exists():
        time.sleep(0.01)
    yield str(address), process
    process.terminate()
    process.wait()


def run(warm_start, server, tmp_path, code: str, record=None):
    script = tmp_path / "script.py"
    script.write_text(code)
    with warm_start._connection(server[0]) as connection:
        warm_start._run_warm(connection, str(script), str(tmp_path / "tmp"), record)


def test_a_script_is_the_main_module_of_a_process_of_its_own(warm_start, server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = """
import atexit, os, subprocess, sys
assert __name__ == "__main__" and sys.modules["__main__"].__dict__ is globals()
told = [sys.argv, __file__, os.getcwd(), os.environ["TMPDIR"], os.getpid(), os.getppid()]
assert subprocess.run(["true"]).returncode == 0
atexit.register(lambda: open("told", "w").write(repr(told)))
"""
    run(warm_start, server, tmp_path, code)
    script, folder = str(tmp_path / "script.py"), str(tmp_path)
    argv, file, cwd, temporary, pid, parent = eval((tmp_path / "told").read_text())
    assert (argv, file, cwd, temporary) == ([script], script, folder, f"{folder}/tmp")
    assert pid != parent == server[1].pid
    assert "TMPDIR" not in os.environ or os.environ["TMPDIR"] != f"{folder}/tmp"


@pytest.mark.parametrize(
    ("code", "status"),
    [("raise KeyError(1)", 1), ("import sys; sys.exit(3)", 3), ("import sys; sys.exit('no')", 1),
     ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL), ("import sys; sys.exit()", 0)],
)  # fmt: skip
def test_how_a_script_ended_is_how_its_job_ends(warm_start, server, tmp_path, code, status):
    if not status:
        return run(warm_start, server, tmp_path, code)
    with pytest.raises(subprocess.CalledProcessError) as error:
        run(warm_start, server, tmp_path, code)
    assert error.value.returncode == status
    run(warm_start, server, tmp_path, "pass")  # the next one is not concerned


def test_its_own_process_is_measured(warm_start, server, tmp_path):
    record = BenchmarkRecord()
    run(
        warm_start,
        server,
        tmp_path,
        "import time; a = bytearray(200 << 20)\nfor _ in range(9): time.sleep(0.1)",
        record,
    )
    assert 0.9 <= record.running_time < 30
    assert record.max_rss > 200


def test_nobody_else_may_ask_and_without_a_server_jobs_start_as_ever(warm_start, tmp_path):
    assert warm_start._connection(str(tmp_path / "nobody")) is None


def test_the_server_ends_with_the_run_that_started_it(root, tmp_path):
    """Also where that had ended before the libraries were loaded."""
    environment = os.environ | {"PYTHONPATH": str(root / "workflow")}
    ended = subprocess.Popen(["true"])
    ended.wait()
    command = [sys.executable, "-c", SERVER, "warm", str(ended.pid)]
    assert subprocess.run(command, cwd=tmp_path, env=environment, timeout=60, check=False).returncode == 0
