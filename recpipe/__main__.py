"""`python -m recpipe`."""

from recpipe.cli.app import main

if __name__ == "__main__":
    main()
