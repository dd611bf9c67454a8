"""Write the documents that are made from the code: `python -m tests.documents` (`make docs`)."""

from __future__ import annotations

from tests.documents import made


def main() -> None:
    for path, text in made.documents().items():
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(made.ROOT)}: written")


if __name__ == "__main__":
    main()
