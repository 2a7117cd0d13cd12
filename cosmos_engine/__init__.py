"""Cosmos Engine: a robotics data engine. Record, make variants, prove them, write zarr."""

__version__ = "0.1.0"
