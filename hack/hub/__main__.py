"""`python -m hub`: serves the repositories below a folder."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from aiohttp import web

from hub.server import PAGE_ENTRIES, Hub
from hub.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m hub",
        description="Serve repositories as Hugging Face, ModelScope and Kaggle do.",
    )
    parser.add_argument("--root", type=Path, required=True, help="what python -m hub.build wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument(
        "--token-env", default="HUB_TOKEN", help="environment variable with the token of private repositories"
    )
    parser.add_argument(
        "--kaggle-env", default="HUB_KAGGLE", help="environment variable with the Authorization value of Kaggle's part"
    )
    parser.add_argument("--cdn-url", default=None, help="redirect large files to this address of the same server")
    parser.add_argument("--page-entries", type=int, default=PAGE_ENTRIES, help="entries in one page of a tree")
    parser.add_argument("--access-log", action="store_true")
    parser.add_argument("--control", action="store_true", help="faults to order and counts at /_control: for tests")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    hub = Hub(
        Store(args.root),
        token=os.environ.get(args.token_env, ""),
        cdn=args.cdn_url,
        control=args.control,
        page=args.page_entries,
        kaggle=os.environ.get(args.kaggle_env, ""),
    )
    log = logging.getLogger("access") if args.access_log else None
    web.run_app(
        hub.app,
        host=args.host,
        port=args.port,
        print=None,
        shutdown_timeout=1,
        access_log=log,
        access_log_format="%r %s %b",
    )


if __name__ == "__main__":
    main()
