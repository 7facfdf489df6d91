"""``python -m normcore``: the command line."""

from normcore.cli import main

if __name__ == "__main__":
    main()
