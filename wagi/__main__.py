"""``python -m wagi`` is the command ``wagi``."""

from wagi.cli import main

if __name__ == "__main__":
    main()
