"""`python -m modelyard_training.core`: the program that the agent starts. Takes everything from the environment."""

from __future__ import annotations

import logging
import os
import sys

from modelyard_training.core.stop import Stop


def main() -> int:
    """Runs, and returns 0 (done), 64 (bad input), 75 (stopped after a checkpoint) or 1."""
    # Before torch: its import takes seconds, in which a pod may be told to go.
    stop = Stop().install()
    # Weights come from a mounted volume; a library that asks a hub instead would wait for a network that is not there.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # The log is for people who look for a fault: no progress bars, no notes on a head that is new on purpose.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    from modelyard_training.core import run

    return run.main(os.environ, stop)


if __name__ == "__main__":
    sys.exit(main())
