"""Write the golden files that are missing; those that exist are left as they are."""

from tests.contract.samples import SAMPLES, golden


def main() -> None:
    for name, (codec, sample) in SAMPLES.items():
        path = golden(name)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(codec.encode(sample))


if __name__ == "__main__":
    main()
