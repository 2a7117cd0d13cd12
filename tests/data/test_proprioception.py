import pytest

from cosmos_engine.data.proprioception import proprioception
from cosmos_engine.errors import InputError


def test_each_robot_in_turn_pose_before_gripper():
    names = ["object", "robot1_eef_pos", "robot10_eef_pos", "robot0_gripper_qpos", "robot0_eef_pos", "robot0_joint_pos"]
    assert proprioception(names, "d") == ("robot0_eef_pos", "robot0_gripper_qpos", "robot1_eef_pos", "robot10_eef_pos")


def test_isaac_labs_names():
    names = ["gripper_pos", "eef_quat", "eef_pos", "joint_pos", "cube_positions", "next_eef_pos"]
    assert proprioception(names, "d") == ("eef_pos", "eef_quat", "gripper_pos")


@pytest.mark.parametrize(("names", "there"), [(["object", "speed"], "of object, speed"), ([], "of none")])
def test_without_any_it_says_what_there_is(names, there):
    with pytest.raises(InputError, match=rf"d\.zarr: no robot0_eef_pos or the like; say low_dim=\[...\], {there}"):
        proprioception(names, "d.zarr")
