import numpy as np

from cosmos_engine.quality import Reader, Readings
from cosmos_engine.quality.shown_reader import JoinedReader, ShownReader, reader_of

from .conftest import LABELS


class Plain:
    name = "plain"

    def read(self, rgb):
        return Readings(np.full((*rgb.shape[:3], 3), 1 / 3, np.float32), np.ones(rgb.shape[:3], np.float32))


class Shown:
    name = "shown"

    def shown(self, passes, labels):
        del labels
        depth_m = passes.depth_m

        class OfClip:
            name = "shown"

            def read(self, rgb):
                roles = np.zeros((*rgb.shape[:3], 3), np.float32)
                roles[..., 1] = 1
                return Readings(roles, np.log(depth_m))

        return OfClip()


def test_a_reader_that_asks_is_shown_the_clip(passes):
    assert isinstance(Shown(), ShownReader)
    assert not isinstance(Plain(), ShownReader)
    plain = Plain()
    assert reader_of(plain, passes, LABELS) is plain
    assert (reader_of(Shown(), passes, LABELS).read(passes.rgb).mask("manipulated")).all()


def test_two_readers_make_one(passes):
    joined = JoinedReader(Plain(), Shown())
    assert joined.name == "plain + shown"
    reader = reader_of(joined, passes, LABELS)
    assert isinstance(reader, Reader)
    readings = reader.read(passes.rgb)
    assert (readings.role_probabilities == np.float32(1 / 3)).all()
    np.testing.assert_array_equal(readings.log_depth, np.log(passes.depth_m))
