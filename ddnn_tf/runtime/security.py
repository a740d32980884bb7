"""Authentication: mutual TLS, with the names of the processes in the certificates.

Every process has a certificate of the deployment's own authority. It carries each name that the process
may act under twice: as the URI `ddnn:<name>`, which a server looks for in its client's certificate, and
as the DNS name `<name>.ddnn`, which a client asks its server's certificate for. So a device can neither
pose as the aggregator nor as another device. A gateway's certificate carries the names of its devices.

`create_certificates` makes a development authority; a real one has to issue the same names.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from ddnn_tf.documents import atomic_write

__all__ = [
    "CLIENT",
    "GATEWAY",
    "Certificates",
    "create_certificates",
    "has_name",
    "host_and_port",
    "is_loopback",
    "joined",
    "server_name",
    "write_keys",
]

CLIENT = "client"
"""Name of whoever asks for classifications."""

GATEWAY = "frame-gateway"
"""Name of the gateway of microcontrollers; with a dash, which no node's name has."""

_AUTHORITY = "ca.pem"
_NAME = re.compile(rf"[A-Za-z][A-Za-z0-9_]{{0,62}}|{GATEWAY}")
_DAYS = 365


@dataclass(frozen=True)
class Certificates:
    """A process's key and certificate, and the authority that it trusts; all PEM.

    Attributes:
        authority: Certificate of the authority.
        certificate: Certificate of the process.
        key: Private key of the process.
    """

    authority: bytes
    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Certificates(...)"

    @classmethod
    def read(cls, directory: str | Path, name: str) -> Certificates:
        """Reads `ca.pem`, `<name>.pem` and `<name>.key`.

        Raises:
            FileNotFoundError: One of them is missing.
            ValueError: One of them is damaged, or key and certificate do not belong together.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        place = Path(directory)
        files = [place / _AUTHORITY, place / f"{name}.pem", place / f"{name}.key"]
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(
                    f"There is no certificate file '{file}': make them with `ddnn certs`, or give --certs."
                )
        contents = [file.read_bytes() for file in files]
        try:
            x509.load_pem_x509_certificate(contents[0])
            public = x509.load_pem_x509_certificate(contents[1]).public_key()
            private = load_pem_private_key(contents[2], password=None)
        except (ValueError, TypeError) as error:
            raise ValueError(f"'{place}' holds a damaged certificate or key of '{name}': {error}.") from None
        if public != private.public_key():
            raise ValueError(f"'{files[1]}' and '{files[2]}' do not belong together: make them anew.")
        return cls(*contents)

    def for_server(self) -> grpc.ServerCredentials:
        """For a server that asks its clients for certificates."""
        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)], root_certificates=self.authority, require_client_auth=True
        )

    def for_client(self) -> grpc.ChannelCredentials:
        """For a client that shows its certificate."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)


def server_name(name: str) -> str:
    """The DNS name by which a certificate says that its holder is that process.

        >>> server_name("device_0"), server_name("S1"), server_name("s1")
        ('device-0.ddnn', 's1.1.ddnn', 's1.ddnn')

    DNS names know no capitals: where the name has some, a label of their own says which letters they are.
    """
    capitals = sum(1 << position for position, letter in enumerate(name) if letter.isupper())
    label = name.lower().replace("_", "-")
    return f"{label}.{capitals:x}.ddnn" if capitals else f"{label}.ddnn"


def has_name(peer: Mapping[str, Iterable[bytes]], name: str) -> bool:
    """Whether a client's certificate carries a name.

    Args:
        peer: `context.auth_context()` of a gRPC server.
        name: `device_0`, `aggregator`, ...
    """
    return f"ddnn:{name}".encode() in peer.get("x509_subject_alternative_name", ())


def host_and_port(address: str) -> tuple[str, int]:
    """The two parts of `host:port`.

    Raises:
        ValueError: It has not both.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"Expected an address host:port, but got {address!r}.")
    return host.strip("[]"), int(port)


def joined(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(address: str) -> bool:
    """Whether `host:port` is of this machine only."""
    host = host_and_port(address)[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def create_certificates(
    directory: str | Path, names: Mapping[str, Sequence[str]] | Sequence[str], *, days: int = _DAYS
) -> list[Path]:
    """Makes an authority for development, and a certificate for each process; whole or not at all.

    Args:
        directory: Where to; it must not exist, or be empty.
        names: Names of the processes; or for each process the names that it acts under.
        days: How long they are valid.

    Returns:
        The files: `ca.pem`, `ca.key`, and `<name>.pem`, `<name>.key` of each. Keys are readable by their
        owner only.

    Raises:
        FileExistsError: There are files in the directory.
        OSError: It cannot be written.
        ValueError: A name that is none.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    place = Path(directory)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise FileExistsError(f"'{place}' exists and is not empty: name a new directory for certificates.")
    acting = names if isinstance(names, Mapping) else {name: [name] for name in names}
    for name in {*acting, *(each for several in acting.values() for each in several)}:
        if not _NAME.fullmatch(name):
            raise ValueError(f"Expected a name of letters, digits and _, but got {name!r}.")
    if days < 1:
        raise ValueError(f"Expected `days` to be at least 1, but got {days}.")
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _signed("ddnn development authority", (), authority_key, None, authority_key, days)
    files = {_AUTHORITY: _pem(authority), "ca.key": _pem_key(authority_key)}
    for name, several in acting.items():
        key = ec.generate_private_key(ec.SECP256R1())
        files[f"{name}.pem"] = _pem(_signed(name, several, key, authority, authority_key, days))
        files[f"{name}.key"] = _pem_key(key)
    with atomic_write(place) as aside:
        aside.mkdir(mode=0o700)
        for file, content in files.items():
            mode = 0o600 if file.endswith(".key") else 0o644
            _write_private(aside / file, content, mode)
    return [place / file for file in files]


def write_keys(path: str | Path, devices: Iterable[str]) -> Path:
    """Writes new keys of microcontrollers behind a gateway, readable by their owner only.

    Args:
        path: The file to make, JSON: 64 hexadecimal digits by device.
        devices: Their names.

    Raises:
        FileExistsError: There is such a file.
        OSError: It cannot be written.
    """
    file = Path(path)
    if file.exists():
        raise FileExistsError(f"'{file}' exists: name a new file for keys.")
    keys = {name: secrets.token_hex(32) for name in devices}
    with atomic_write(file) as aside:
        _write_private(aside, (json.dumps(keys, indent=2) + "\n").encode(), 0o600)
    return file


def _write_private(path: Path, content: bytes, mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)


def _signed(name: str, acting: Sequence[str], key: Any, issuer: Any, issuer_key: Any, days: int) -> Any:
    """A certificate; without an issuer that of an authority, signed by itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    is_authority = issuer is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if is_authority else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # An hour back, for machines whose clocks differ.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    if is_authority:
        usage = dict.fromkeys(
            (
                "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
                "key_agreement", "encipher_only", "decipher_only",
            ),
            False,
        )  # fmt: skip
        builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), True)
    else:
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        known: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"ddnn:{each}") for each in acting]
        known += [x509.DNSName(server_name(each)) for each in acting]
        builder = (
            builder.add_extension(x509.SubjectAlternativeName(known), False)
            .add_extension(x509.ExtendedKeyUsage(uses), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)
        )
    return builder.sign(issuer_key, hashes.SHA256())


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _pem_key(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
