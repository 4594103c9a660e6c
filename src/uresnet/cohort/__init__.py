"""Many images: tables of pairs, engines that run them, a manifest, tables over all of them, templates.

One pair is :mod:`uresnet.pipeline`'s. Here it is decided which pairs are done already, where the others run, and what
is written of them together.
"""
