"""Run by a Python with zarr 2 and numba: read a dataset with the unmodified ReplayBuffer and SequenceSampler.

python read_replay_buffer.py CHECKOUT DATASET OUT.npz
"""

import sys

import numpy as np


def main(checkout: str, dataset: str, out: str) -> None:
    sys.path.insert(0, checkout)
    from diffusion_policy.common.replay_buffer import ReplayBuffer
    from diffusion_policy.common.sampler import SequenceSampler

    lazy = ReplayBuffer.create_from_path(dataset, mode="r")
    keys = ["action", "robot0_eef_pos", "robot1_eef_pos", "wrench", "table_image", "wrist_image"]
    buffer = ReplayBuffer.copy_from_path(dataset, keys=keys)
    mask = np.asarray(lazy.meta["accepted"][:], dtype=bool)
    sampler = SequenceSampler(buffer, sequence_length=4, pad_before=1, pad_after=2, episode_mask=mask)
    windows = [sampler.sample_sequence(index) for index in range(len(sampler))]
    stacked = {key: np.stack([window[key] for window in windows]) for key in keys}
    arrays = {f"rows/{key}": np.asarray(buffer[key]) for key in keys}
    episode = lazy.get_episode(1)
    arrays |= {f"episode/{key}": np.asarray(episode[key]) for key in keys}
    np.savez(out, episode_ends=np.asarray(buffer.episode_ends[:]), indices=sampler.indices, **stacked, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
