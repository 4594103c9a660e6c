"""uresnet inside other libraries: a nipype interface, MONAI transforms and TorchIO transforms.

Each module needs its library and imports it; nothing else in uresnet does.
"""
