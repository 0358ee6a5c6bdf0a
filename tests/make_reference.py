"""Make results/001-baseline/reference anew: one run of experiment 001, kept in the repository."""

import shutil
import sys
import tempfile
from pathlib import Path

from fleetsim.base.project import Project
from fleetsim.runner.run import execute

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "001-baseline" / "reference"
LIMIT = 2_000_000  # bytes


def main() -> int:
    """Run the experiment and replace the reference by what it made."""
    with tempfile.TemporaryDirectory() as results:
        outcome = execute(Project(ROOT), "001-baseline", results=results)
        if outcome.record.status != "completed":
            print(f"the run failed: {outcome.record.error}", file=sys.stderr)
            return 1
        size = sum(path.stat().st_size for path in outcome.path.rglob("*") if path.is_file())
        if size >= LIMIT:
            print(f"the run has {size} bytes; allowed: below {LIMIT}", file=sys.stderr)
            return 1
        shutil.rmtree(REFERENCE, ignore_errors=True)
        shutil.copytree(outcome.path, REFERENCE)
    print(f"{REFERENCE.relative_to(ROOT)}: {outcome.record.run_id}, {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
