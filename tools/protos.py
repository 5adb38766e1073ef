"""`python -m tools.protos`: make the messages of protos/ anew, where they are used."""

import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = "loopai/v1/loopai.proto"
PLACES: Final = (
    ROOT / "loopai" / "ingress" / "rpc",
    ROOT / "clients" / "python" / "loopai_client",
)
NAMES: Final = ("loopai_pb2.py", "loopai_pb2.pyi")


def made() -> dict[Path, str]:
    """Each file with what should stand in it."""
    # Imported here: it is in the extra for developers alone.
    import grpc_tools  # noqa: PLC0415
    from grpc_tools import protoc  # noqa: PLC0415

    included = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        failed = protoc.main(
            [
                "protoc",
                f"-I{ROOT / 'protos'}",
                f"-I{included}",
                f"--python_out={folder}",
                f"--pyi_out={folder}",
                SOURCE,
            ]
        )
        if failed:
            raise RuntimeError(f"protoc does not read {SOURCE}")
        texts = {name: (Path(folder, SOURCE).parent / name).read_text() for name in NAMES}
    return {place / name: text for place in PLACES for name, text in texts.items()}


def stale() -> list[Path]:
    """The files that are not what protoc makes."""
    return [path for path, text in made().items() if not path.exists() or path.read_text() != text]


def main() -> int:
    for path, text in made().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
