"""smelt: learn, mine, fuse. Strong image classifiers from large, noisy collections of web images."""

__version__ = "0.1.0"
