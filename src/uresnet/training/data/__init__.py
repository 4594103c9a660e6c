"""Training data, in the order in which they are made and used.

``sources`` finds the files, ``label_maps`` reads those without images, and ``splits`` divides the people; ``prepare``
conforms the files to a data folder; ``dataset`` reads that folder, ``bundle`` makes one file of it, and ``store`` holds
it on a device; ``pairs`` and ``classes`` choose from it.
"""
