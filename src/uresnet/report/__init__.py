"""What a person looks at: pages (``pages``), figures for print (``figures``) and the interactive viewer (``viewer``).

All start from a :class:`~uresnet.results.registration.RegisteredPair`, in memory or read back from an output folder
with ``read_registered_pair``. What pages and figures share lies beside them: ``slices`` cuts images, ``deformation`` is
what they show of a transform, ``structures`` groups and colours structures, ``contours`` draws outlines as SVG,
``pictures`` turns arrays into images, and ``html`` fills the templates. They compute and draw; ``quality`` judges.
"""
