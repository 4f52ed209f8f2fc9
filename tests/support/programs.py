"""Programs that tests drive and a bare machine may lack: installed as Debian packages, as the launcher does its own."""

from __future__ import annotations

from localcluster.host import install_packages

_PACKAGES = {
    "aria2c": "aria2",
    "git": "git",
    "git-lfs": "git-lfs",
    "nginx": "nginx",
    "rclone": "rclone",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
}


def need(*programs: str) -> None:
    """Makes sure that they are there.

    Raises:
        LauncherError: names the packages where they can't be installed.
    """
    install_packages({program: _PACKAGES[program] for program in programs})
