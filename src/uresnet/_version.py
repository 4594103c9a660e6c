"""The version, said once: the build reads it here, and so do ``uresnet --version`` and the record of every run."""

__version__ = "0.1.0"
