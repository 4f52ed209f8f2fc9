"""Loopback ports for the servers of tests.

From below the kernel's ephemeral range, so that no outgoing connection takes one before its server listens there or
while it is started again, and never the same one twice in a process.
"""

from __future__ import annotations

from localcluster.ports import free_ports

_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on now."""
    while True:
        with free_ports(["server"]) as ports:
            if ports["server"] not in _given:
                _given.add(ports["server"])
                return ports["server"]
