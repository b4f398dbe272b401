"""`python -m mixer`."""

from mixer.cli import main

if __name__ == "__main__":
    main()
