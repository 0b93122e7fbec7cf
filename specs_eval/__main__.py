"""``python -m specs_eval``."""

from specs_eval.cli import main

if __name__ == "__main__":
    main()
