"""Write the golden files that are missing; those that exist are left as they are."""

from tests.contract.samples import GOLDEN, SAMPLES, golden_name


def main() -> None:
    for name, (codec, sample) in SAMPLES.items():
        path = GOLDEN / "v1" / golden_name(name)
        if not path.exists():
            path.write_bytes(codec.encode(sample))


if __name__ == "__main__":
    main()
