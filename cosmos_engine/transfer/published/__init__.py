"""NVIDIA's published files: fetched, converted, kept with a manifest, verified and read."""
