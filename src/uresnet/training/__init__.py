"""Training, in the order in which it happens.

``data`` holds the scans and ``examples`` changes them at random; ``objective`` is the loss on an example. ``loop``
makes the updates, with ``optimisers`` and ``schedule``; ``pair_trainer`` and ``segmenter_trainer`` complete it for
their networks. ``validation`` judges the network, ``state`` saves and resumes, ``events`` and ``log`` record what
happens. ``run`` opens and runs a training, and ``cost`` measures what it would need.
"""
