"""`python -m deploy images|install`: the development loop, from changed code to pods that run it."""

from __future__ import annotations

import argparse
import sys

from deploy import images, release
from deploy.shell import CommandError
from deploy.target import bring_up


def main() -> int:
    """Exit code 0: done; 1: what failed is on stderr."""
    parser = argparse.ArgumentParser(prog="deploy", description=__doc__)
    parser.add_argument("what", choices=["images", "install"])
    what = parser.parse_args().what
    try:
        target = bring_up()
        if what == "images":
            target.build(images.OPERATOR, images.TRAINER, images.HUB)
        else:
            operator, trainer = target.build(images.OPERATOR, images.TRAINER)
            release.install(target.cluster, operator, trainer, {})
    except CommandError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
