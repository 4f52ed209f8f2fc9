from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from modelyard.controllers.tls import leaf_is_good, make_ca, make_leaf, server_names
from modelyard.settings import Collector, Settings

NOW = datetime(2026, 11, 21, tzinfo=UTC)
LIFE = timedelta(days=90)
CA = make_ca(NOW, timedelta(days=3650))
NAMES = ("collector.ns.svc", "127.0.0.1")


def test_a_leaf_is_renewed_at_two_thirds_of_its_life() -> None:
    leaf = make_leaf(CA, NAMES, NOW, LIFE).certificate
    assert leaf_is_good(leaf, CA.certificate, NAMES, NOW + timedelta(days=59))
    assert not leaf_is_good(leaf, CA.certificate, NAMES, NOW + timedelta(days=61))


def test_a_leaf_of_another_authority_or_without_a_name_is_no_good() -> None:
    leaf = make_leaf(CA, NAMES, NOW, LIFE).certificate
    assert not leaf_is_good(leaf, make_ca(NOW, LIFE).certificate, NAMES, NOW)
    assert not leaf_is_good(leaf, CA.certificate, (*NAMES, "new-name"), NOW)


def test_a_leaf_does_not_outlive_its_authority() -> None:
    ca = make_ca(NOW, timedelta(days=10))
    assert make_leaf(ca, NAMES, NOW, LIFE).certificate.not_valid_after_utc <= ca.certificate.not_valid_after_utc


def test_the_names_are_those_that_pods_and_the_url_use() -> None:
    settings = Settings(namespace="ns", collector=Collector(url="https://10.0.0.7:8443", service="c"))
    assert server_names(settings) == ("c.ns.svc", "c.ns.svc.cluster.local", "c.ns", "c", "10.0.0.7")
    found = make_leaf(CA, server_names(settings), NOW, LIFE).certificate.extensions
    names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]


def test_openssl_accepts_the_chain_strictly(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    ca = make_ca(now, LIFE)
    leaf = make_leaf(ca, NAMES, now, timedelta(days=1))
    pair = tmp_path / "pair.pem"
    pair.write_text(leaf.certificate_pem() + leaf.key_pem())
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cadata=ca.certificate_pem())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server.load_cert_chain(pair)
    assert shake_hands(client, server, "collector.ns.svc")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, server, "another.ns.svc")


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bool:
    """A TLS handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass
    return not ends
