"""Who we are to the broker: passwords, nkeys, TLS; and what is said when it does not let us in."""

import datetime as dt
import ipaddress
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from streams import connection, credentials, permissions
from tests.secured import Secured


def seed_file(folder: Path, seed: str) -> str:
    path = folder / "seed.nk"
    path.write_text(f"{seed}\n")
    return str(path)


async def test_a_wrong_password_is_told_without_it(tmp_path: Path) -> None:
    """The message says what to check, and shows neither the user nor the password."""
    async with Secured(tmp_path / "nats") as broker:
        url = broker.url_of("ingress").replace("secret-of", "no-secret-of")
        with pytest.raises(connection.BrokerUnavailable) as told:
            await connection.connect(url, name="test", role="ingress", timeout_s=1)
    assert "does not let us in" in str(told.value)
    assert "LOOPAI_NATS_URL" in str(told.value)
    assert "secret" not in str(told.value)


async def test_a_url_with_a_password_is_never_shown(tmp_path: Path) -> None:
    """Neither where nobody listens nor where it is no URL."""
    for url in ("nats://me:hidden@127.0.0.1:1", "nats://me:hid/den@:x", "me:hidden@"):
        with pytest.raises(connection.BrokerUnavailable) as told:
            await connection.connect(url, name="test", timeout_s=0.3)
        assert "hid" not in str(told.value)


async def test_an_nkey_proves_a_role(tmp_path: Path) -> None:
    """The broker knows the public key, the process its seed; another seed is refused."""
    seed = credentials.seed(os.urandom(32))
    proof = credentials.Credentials(nkey=seed_file(tmp_path, seed))
    signer = proof.signer()
    assert signer is not None
    assert signer.public.startswith("U")
    keys = {
        permissions.variable(role, "nkey"): credentials.Signer(
            credentials.seed(os.urandom(32)), ""
        ).public
        for role in [*permissions.ROLES, *map(permissions.tenant, ("acme", "beta", "3"))]
    }
    keys["NATS_NKEY_ADMIN"] = signer.public
    async with Secured(tmp_path / "nats", proof="nkey", values=keys) as broker:
        url = f"nats://127.0.0.1:{broker.port}"
        bus = await connection.connect(url, name="test", role="admin", proof=proof)
        assert (await bus.jetstream.account_info()).streams == 0
        await bus.close()
        other = credentials.Credentials(nkey=seed_file(tmp_path, credentials.seed(os.urandom(32))))
        with pytest.raises(connection.BrokerUnavailable, match="does not let us in"):
            await connection.connect(url, name="test", role="admin", proof=other, timeout_s=1)


async def test_a_creds_file_is_read_and_sent(tmp_path: Path) -> None:
    """A broker that knows no JWTs refuses it, which takes a signature that it has read."""
    seed = credentials.seed(os.urandom(32))
    creds = tmp_path / "user.creds"
    creds.write_text(
        "-----BEGIN NATS USER JWT-----\neyJ0.eyJq.c2ln\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    signer = credentials.Credentials(creds=str(creds)).signer()
    assert signer is not None
    assert signer.jwt == "eyJ0.eyJq.c2ln"
    async with Secured(tmp_path / "nats") as broker:
        with pytest.raises(connection.BrokerUnavailable, match="does not let us in"):
            await connection.connect(
                f"nats://127.0.0.1:{broker.port}",
                name="test",
                proof=credentials.Credentials(creds=str(creds)),
                timeout_s=1,
            )


@pytest.mark.parametrize("text", ["", "SUAB", "x" * 58, "SU" + "A" * 56, "U" * 56, "é"])
async def test_a_seed_that_is_none_is_told_without_it(tmp_path: Path, text: str) -> None:
    """By the name of its file, before anything is sent."""
    proof = credentials.Credentials(nkey=seed_file(tmp_path, text))
    with pytest.raises(connection.BrokerUnavailable, match=r"seed\.nk: no seed of a user"):
        await connection.connect("nats://127.0.0.1:1", name="test", proof=proof)


async def test_files_that_are_not_there_are_told(tmp_path: Path) -> None:
    """Each by its name: the creds, the seed, the certificates, and creds of another form."""
    gone = str(tmp_path / "gone")
    empty = tmp_path / "empty"
    empty.write_text("nothing")
    for proof in (
        credentials.Credentials(creds=gone),
        credentials.Credentials(nkey=gone),
        credentials.Credentials(ca=gone),
        credentials.Credentials(creds=str(empty)),
        credentials.Credentials(ca=str(empty)),
    ):
        with pytest.raises(connection.BrokerUnavailable, match=r"gone|empty"):
            await connection.connect("nats://127.0.0.1:1", name="test", proof=proof)


async def test_tls_trusts_whom_it_is_told_to(tmp_path: Path) -> None:
    """With the certificate of its authority the broker is trusted, without it it is not."""
    certificate, key = _certificate(tmp_path)
    more = f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}'
    async with Secured(tmp_path / "nats", more=more) as broker:
        url = broker.url.replace("nats://", "tls://")
        proof = credentials.Credentials(ca=str(certificate))
        bus = await connection.connect(url, name="test", role="admin", proof=proof)
        assert (await bus.jetstream.account_info()).streams == 0
        await bus.close()
        with pytest.raises(connection.BrokerUnavailable, match="certificate"):
            await connection.connect(url, name="test", role="admin", timeout_s=2)


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, secret
