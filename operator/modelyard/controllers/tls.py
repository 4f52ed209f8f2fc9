"""The collector's certificates: a long-lived CA and a leaf that is renewed, two Secrets in the operator's namespace.

Only the leader writes them, and only when something is missing, wrong or two thirds through its life; what somebody
else made under their names is used where it serves, and never changed. Running Jobs
carry the CA's certificate inline, so the CA outlives them by far. Private keys stay in the Secrets and in this module.
"""

from __future__ import annotations

import base64
import ipaddress
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from modelyard.cluster import errors
from modelyard.cluster.client import Client
from modelyard.plan import Ref
from modelyard.resources.meta import LABEL_MANAGED_BY, MANAGED_BY, SECRET
from modelyard.settings import Settings

logger = logging.getLogger(__name__)

CHECK_SECONDS = 3600.0
_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> str:
        """The certificate as PEM text: public."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def key_pem(self) -> str:
        """The private key as PEM text."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()


class Certificates:
    """Keeps both Secrets right."""

    def __init__(self, client: Client, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._ca_ref = Ref(SECRET, settings.namespace, settings.collector.ca_secret)
        self._leaf_ref = Ref(SECRET, settings.namespace, settings.collector.tls_secret)

    async def ensure(self) -> str:
        """Makes what is missing or due, and returns the CA's certificate as PEM text. ApiError if that fails."""
        now, lives = self._clock(), self._settings.certificates
        leaf_life = timedelta(days=lives.leaf_days)
        ca_secret = await self._get(self._ca_ref)
        ca = _pair(ca_secret)
        if ca is None or ca.certificate.not_valid_after_utc - now < leaf_life:
            ca = make_ca(now, timedelta(days=lives.ca_days))
            await self._write(self._ca_ref, ca_secret, {"tls.crt": ca.certificate_pem(), "tls.key": ca.key_pem()})
            logger.info("Made a certificate authority for the collector.")
        leaf_secret = await self._get(self._leaf_ref)
        names = server_names(self._settings)
        leaf = _pair(leaf_secret)
        if leaf is None or not leaf_is_good(leaf.certificate, ca.certificate, names, now):
            leaf = make_leaf(ca, names, now, leaf_life)
            content = {"tls.crt": leaf.certificate_pem(), "tls.key": leaf.key_pem(), "ca.crt": ca.certificate_pem()}
            await self._write(self._leaf_ref, leaf_secret, content)
            logger.info("Made a certificate for the collector.")
        return ca.certificate_pem()

    def seconds_to_next_check(self) -> float:
        """An hour, or less where leaves live shorter than that."""
        return min(CHECK_SECONDS, self._settings.certificates.leaf_days * 86400 / 10)

    async def _get(self, ref: Ref) -> dict[str, Any] | None:
        try:
            return await self._client.get(ref)
        except errors.NotFoundError:
            return None

    async def _write(self, ref: Ref, old: dict[str, Any] | None, content: Mapping[str, str]) -> None:
        data = {name: base64.b64encode(text.encode()).decode() for name, text in content.items()}
        if old is not None:
            if (old["metadata"].get("labels") or {}).get(LABEL_MANAGED_BY) != MANAGED_BY:
                what = "holds no usable pair, was not made by Modelyard and stays as it is"
                raise errors.ConflictError(f"Secret {ref.namespace}/{ref.name} {what}", 409, "NameTaken")
            await self._client.replace(SECRET, {**old, "data": data})
            return
        metadata = {"name": ref.name, "namespace": ref.namespace, "labels": {LABEL_MANAGED_BY: MANAGED_BY}}
        await self._client.create(SECRET, {"metadata": metadata, "type": "kubernetes.io/tls", "data": data})


def server_names(settings: Settings) -> tuple[str, ...]:
    """Every name that a pod may reach the collector by; addresses included."""
    service, namespace = settings.collector.service, settings.namespace
    names = [
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.cluster.local",
        f"{service}.{namespace}",
        service,
    ]
    host = urlsplit(settings.collector.url or "").hostname
    return tuple(dict.fromkeys([*names, host] if host else names))


def make_ca(now: datetime, life: timedelta) -> Pair:
    """A new self-signed authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Modelyard collector CA")])
    builder = _builder(name, name, key.public_key(), now, life).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    builder = builder.add_extension(_usage(sign_certificates=True), critical=True)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def make_leaf(ca: Pair, names: tuple[str, ...], now: datetime, life: timedelta) -> Pair:
    """A new server certificate for `names`, never valid for longer than its authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    life = min(life, ca.certificate.not_valid_after_utc - now)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "modelyard-collector")])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = (
        _builder(subject, ca.certificate.subject, key.public_key(), now, life)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(authority, critical=False)
    )
    return Pair(builder.sign(ca.key, hashes.SHA256()), key)


def leaf_is_good(leaf: x509.Certificate, ca: x509.Certificate, names: tuple[str, ...], now: datetime) -> bool:
    """Whether a leaf is the authority's, has all names and is less than two thirds through its life."""
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    if now > leaf.not_valid_before_utc + life * 2 / 3:
        return False
    try:
        leaf.verify_directly_issued_by(ca)
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return all(_general_name(name) in found for name in names)


def _pair(secret: Mapping[str, Any] | None) -> Pair | None:
    """The certificate and key in a Secret, None if there is no usable pair."""
    data = (secret or {}).get("data") or {}
    try:
        certificate = x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"]))
        key = serialization.load_pem_private_key(base64.b64decode(data["tls.key"]), password=None)
    except (KeyError, ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    return Pair(certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
