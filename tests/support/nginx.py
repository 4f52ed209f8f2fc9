"""A real nginx on loopback: a folder with ranges, entity tags and directory indexes, with or without a password."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from support.loading import until
from support.ports import free_port

_CONFIG = """
daemon off;
{user}
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
  log_format sent escape=json '{{"path":"$uri","status":$status,"range":"$http_range","bytes":$body_bytes_sent}}';
  access_log {folder}/access.log sent buffer=64k flush=1s;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  types {{ text/html html; }}
  default_type application/octet-stream;
  sendfile on; tcp_nopush on; keepalive_requests 100000;
  server {{
    listen 127.0.0.1:{port} sndbuf=512k;
    root {root};
    location / {{ autoindex on; {limits} add_header X-Repo-Commit {commit}; }}
    location /api/ {{ default_type application/json; }}
  }}
}}
"""
_COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Nginx:
    """One server. `password` asks for `me` with it; `rate` limits a connection, in bytes a second."""

    def __init__(self, folder: Path, root: Path, *, password: str = "", rate: int = 0) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "access.log"
        limits = f"limit_rate {rate};" if rate else ""
        if password:
            (folder / "users").write_text(f"me:{{PLAIN}}{password}\n")
            limits += f' auth_basic "files"; auth_basic_user_file {folder}/users;'
        config = folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        values = {"folder": folder, "port": self.port, "root": root, "user": user, "limits": limits}
        config.write_text(_CONFIG.format(**values, commit=_COMMIT))
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None
        self._process = subprocess.Popen([program, "-e", folder / "error.log", "-p", folder, "-c", config])
        until(lambda: self._process.poll() is not None or self._answers(), "nginx")

    def requests(self) -> list[dict[str, object]]:
        """What was asked for so far: path, status, range, bytes of the body."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def sent(self) -> int:
        """Bytes of bodies so far, once no more of them appear in the log."""
        found = -1
        while found != (now := sum(int(str(item["bytes"])) for item in self.requests())):
            found = now
            time.sleep(1.5)  # more than the log is held back
        return found

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True
