"""NVIDIA's inference spec: its samples, their clips, and the job that runs them."""
