"""How good registrations are whose true labels are known.

``pairs`` registers and scores one pair, ``scores`` holds what is measured, ``run`` takes all pairs and models,
``journal`` lets a stopped evaluation continue, ``table`` writes the paper's Table 1.
"""
