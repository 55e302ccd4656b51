"""Write what docs/ has of the catalogue of events: `python -m tests.schema.write`."""

from __future__ import annotations

from tests.schema.written import texts


def main() -> None:
    """Write each file that is not current, and name it."""
    for path, text in list(texts()):
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            print(f"written: {path}")


if __name__ == "__main__":
    main()
