"""DPPO: fine-tune a cloned diffusion policy by reinforcement (Ren et al. 2024, "Diffusion Policy Policy Optimization").

Every denoise step is a Gaussian action: acting in the environment is one Markov decision process, denoising another
inside it, and PPO runs on the pairs of environment step and denoise step. `chain` is the inner process, `collection`
the outer one, `advantages` and `objective` the algorithm, `critic` the value function, `state` what an iteration
changes, `evaluation` counts successes, `finetuning` is the loop, `config` its numbers.
"""
