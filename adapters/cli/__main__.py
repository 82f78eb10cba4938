"""`python -m adapters.cli` is `hub`."""

from adapters.cli import main

if __name__ == "__main__":
    main()
