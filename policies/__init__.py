"""Policies that learn from datasets, and the benchmark that measures them.

`windows` reads a dataset, `diffusion` is the policy, `training` fits it, `checkpoint` saves and loads it, `rollout`
lets it act in an `Environment`, `benchmark` counts successes under shifts, `robomimic_*` trains and loads robomimic's
policies, `commands` is the command line. Nothing is re-exported here: the command line imports this package for its
help text, which must not wait for torch.
"""
