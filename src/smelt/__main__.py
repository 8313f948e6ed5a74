"""`python -m smelt` is the same as `smelt`."""

from smelt.cli import main

if __name__ == "__main__":
    main()
