"""The only place of the version: the build, ``uresnet --version`` and the record of every run read it here."""

__version__ = "0.1.0"
