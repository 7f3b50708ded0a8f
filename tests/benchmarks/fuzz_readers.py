"""Read 5,000 damaged files of each kind and print what came of them; fails where anything but the allowed happened."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fuzz_readers as fuzzing
from fuzz_pixels import pixel_seeds

MUTANTS = 5000

if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MUTANTS
    allowed = ("right", "refused", "other pixels, allowed")
    print(
        f"| Damaged | {' | '.join(allowed)} | anything else | Memory in MB | Time in s |\n|---|---|---|---|---|---|---|"
    )
    failed = False
    for name, seed in (fuzzing.volume_seeds() | pixel_seeds()).items():
        start = time.perf_counter()
        outcomes, grown_mb = fuzzing.run(seed, count, random_seed=1)
        seconds = time.perf_counter() - start
        others = {text: number for text, number in outcomes.items() if text not in allowed}
        failed |= bool(others) or grown_mb > fuzzing.MEMORY_MB
        counts = " | ".join(str(outcomes[text]) for text in allowed)
        print(f"| {name} | {counts} | {others or '-'} | {grown_mb:.0f} | {seconds:.0f} |", flush=True)
    sys.exit(failed)
