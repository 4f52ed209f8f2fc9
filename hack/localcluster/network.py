"""The node's network on one machine: a bridge with the node's address, a bridge for pods, routes and masquerading.

Nothing leaves the machine but what pods send to other machines, behind this machine's address. Every setting is undone
by `down`, sysctls by the values they had.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

from localcluster.components import Network
from localcluster.errors import LauncherError
from localcluster.paths import ClusterDir
from localcluster.shell import attempt, run

NODE_BRIDGE = "mdl-node"
POD_BRIDGE = "mdl-pods"
FULL = Network(address="10.211.0.1")
_TABLE = "modelyard"
_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    # Answers between two pods on the same bridge must pass the rules that rewrote the question's address.
    "net/bridge/bridge-nf-call-iptables": "1",
}


def _refuse_overlap() -> None:
    """Another network in our ranges would be cut off."""
    ours = [ipaddress.ip_network(c) for c in (f"{FULL.address}/32", FULL.service_cidr, FULL.pod_cidr)]
    for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "main") or "[]"):
        if route["dst"] == "default" or route.get("dev") in (NODE_BRIDGE, POD_BRIDGE):
            continue
        there = ipaddress.ip_network(route["dst"], strict=False)
        for network in ours:
            if network.overlaps(there):
                raise LauncherError(f"this machine routes {there} to {route.get('dev')}; the cluster needs {network}")


def _set_sysctls(cluster: ClusterDir) -> None:
    saved = cluster.node / "sysctls.json"
    previous: dict[str, str] = json.loads(saved.read_text()) if saved.exists() else {}
    for name, value in _SYSCTLS.items():
        path = Path("/proc/sys") / name
        if not path.exists():
            attempt("modprobe", "br_netfilter")
        if not path.exists():
            raise LauncherError(f"the kernel has no {name}: it needs the module br_netfilter")
        current = path.read_text().strip()
        if current != value:
            previous.setdefault(name, current)
            saved.write_text(json.dumps(previous))
            path.write_text(value)


def set_up(cluster: ClusterDir) -> None:
    """Bridge, address, routes, masquerading and the CNI's configuration; may be repeated."""
    _refuse_overlap()
    cluster.node.mkdir(parents=True, exist_ok=True)
    _set_sysctls(cluster)
    if attempt("ip", "link", "show", NODE_BRIDGE).returncode:
        run("ip", "link", "add", NODE_BRIDGE, "type", "bridge")
    run("ip", "link", "set", NODE_BRIDGE, "up")
    run("ip", "address", "replace", f"{FULL.address}/32", "dev", NODE_BRIDGE)
    # Before the first pod: without it an address that kube-proxy doesn't know yet leaves by the default route, and
    # something else answers.
    run("ip", "route", "replace", FULL.service_cidr, "dev", NODE_BRIDGE)
    rules = f"""
    table ip {_TABLE}
    delete table ip {_TABLE}
    table ip {_TABLE} {{
        chain postrouting {{
            type nat hook postrouting priority srcnat; policy accept;
            ip saddr {FULL.pod_cidr} ip daddr != {{ {FULL.pod_cidr}, {FULL.service_cidr}, {FULL.address} }} masquerade
        }}
    }}
    """
    run("nft", "-f", "-", stdin=rules)
    folder = cluster.conf / "cni"
    folder.mkdir(parents=True, exist_ok=True)
    plugin = {
        "cniVersion": "1.0.0",
        "name": "modelyard",
        "plugins": [
            {
                "type": "bridge",
                "bridge": POD_BRIDGE,
                "isDefaultGateway": True,
                # A pod may reach itself by the Service that it stands behind.
                "hairpinMode": True,
                # Done by the table above: the plugin's own way leaves chains behind.
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": FULL.pod_cidr.replace("/16", "/24")}]],
                    "dataDir": "/var/lib/cni/networks",
                },
            }
        ],
    }
    (folder / "10-modelyard.conflist").write_text(json.dumps(plugin, indent=1))


def remove(cluster: ClusterDir) -> None:
    """Take away links (their routes go with them), rule tables (kube-proxy's too), and sysctl changes."""
    for link in (POD_BRIDGE, NODE_BRIDGE):
        attempt("ip", "link", "delete", link)
    for family, table in (("ip", _TABLE), ("ip", "kube-proxy"), ("ip6", "kube-proxy")):
        attempt("nft", "delete", "table", family, table)
    saved = cluster.node / "sysctls.json"
    if saved.exists():
        for name, value in json.loads(saved.read_text()).items():
            (Path("/proc/sys") / name).write_text(value)
        saved.unlink()


def leftovers() -> list[str]:
    """What of the above is still there."""
    links = [f"link {n}" for n in (NODE_BRIDGE, POD_BRIDGE) if attempt("ip", "link", "show", n).returncode == 0]
    tables = attempt("nft", "list", "tables").stdout.splitlines()
    return links + [t for t in tables if t.split()[-1] in (_TABLE, "kube-proxy")]
