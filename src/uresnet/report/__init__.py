"""What a person looks at: the page beside a result, its figures, its verdict, and the viewer.

Everything here starts from :class:`~uresnet.results.registration.RegisteredPair`, which a registration is in memory and
which ``read_registered_pair`` reads back from an output folder at any later time.
"""
