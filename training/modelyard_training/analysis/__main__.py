"""`python -m modelyard_training.analysis`: takes everything from the environment, as the trainer does.

Exit code 0 with the findings in the termination message, 64 with a sentence for the user, anything else for an error.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

log = logging.getLogger("modelyard_training.analysis")


def main() -> int:
    """Looks, and tells."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    from modelyard_training.analysis import look, report
    from modelyard_training.core import errors

    last_words = Path(os.environ.get("MODELYARD_TERMINATION_LOG") or "/dev/termination-log")
    output = Path(os.environ.get("MODELYARD_OUTPUT") or "/modelyard/output")
    try:
        findings = look.look(look.Given.from_environment(os.environ))
        report.keep(output, findings)
    except errors.BadInput as error:
        log.error("%s: %s", error.reason, error)
        last_words.write_bytes(report.refusal(error.reason, str(error)))
        return errors.BAD_INPUT
    last_words.write_bytes(report.last_words(findings))
    print(findings.message)
    return errors.DONE


if __name__ == "__main__":
    sys.exit(main())
