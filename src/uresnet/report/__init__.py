"""What a person looks at: the page beside a result, its figures, its verdict, and the viewer.

Everything here starts from :class:`~uresnet.results.registration.Results`, which a registration has in memory and which
``read_results`` reads back from an output folder at any later time.
"""
