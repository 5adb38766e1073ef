"""The Python client as a package of its own."""

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import loopai_client

ROOT = Path(__file__).parents[2]
CLIENT, LICENSE = ROOT / "clients" / "python", ROOT / "LICENSE"


def test_a_wheel_holds_the_client_and_asks_for_two_packages(tmp_path: Path) -> None:
    """Its version is the module's; NATS and gRPC are extras; types and the license come with it."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    built = subprocess.run(
        [*command, "--directory", str(tmp_path)], cwd=CLIENT, capture_output=True, check=False
    )
    assert built.returncode == 0, built.stderr.decode()
    (file,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(file) as wheel:
        names = wheel.namelist()
        about = next(name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(wheel.read(about).decode())
        license_text = wheel.read(about.replace("METADATA", "licenses/LICENSE"))
    modules = {str(path.relative_to(CLIENT)) for path in CLIENT.glob("loopai_client/**/*.py")}
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == modules | {"loopai_client/py.typed", "loopai_client/loopai_pb2.pyi"}
    assert license_text == LICENSE.read_bytes()
    assert metadata["Version"] == loopai_client.__version__
    needed = metadata.get_all("Requires-Dist")
    extras = ["googleapis-common-protos", "grpcio", "protobuf", "nats-py"]
    assert needed[:2] == ["httpx>=0.28", "msgspec>=0.19"]
    assert [each.partition(">")[0] for each in needed[2:]] == extras
    assert all("; extra == " in each for each in needed[2:])
