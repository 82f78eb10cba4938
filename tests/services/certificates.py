"""Certificates for tests: an authority of its own for each name, and one certificate signed by it."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(folder: Path, name: str, host: str) -> Path:
    """Write a CA and a certificate of one host signed by it; return the CA's file."""
    now = datetime.datetime.now(datetime.UTC)

    def build(
        subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, public: bool
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=public, path_length=None), critical=True)
        )

    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = build(f"{name} CA", root, f"{name} CA", public=True).sign(root, hashes.SHA256())
    try:
        place: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        place = x509.DNSName(host)
    signed = build(host, leaf, f"{name} CA", public=False).add_extension(
        x509.SubjectAlternativeName([place]), critical=False
    )
    pem = serialization.Encoding.PEM
    (folder / f"{name}-ca.pem").write_bytes(authority.public_bytes(pem))
    (folder / f"{name}.pem").write_bytes(signed.sign(root, hashes.SHA256()).public_bytes(pem))
    (folder / f"{name}.key").write_bytes(
        leaf.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / f"{name}-ca.pem"
