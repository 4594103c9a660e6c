"""``python -m uresnet`` is the ``uresnet`` command."""

from uresnet.cli import main

if __name__ == "__main__":
    main()
