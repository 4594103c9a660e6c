"""``python -m uresnet`` is the ``uresnet`` command."""

from uresnet.cli.main import main

if __name__ == "__main__":
    main()
