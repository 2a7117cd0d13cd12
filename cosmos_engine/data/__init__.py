"""Episodes, recordings (HDF5), datasets (zarr) and the certificate that ties one to the other."""

from cosmos_engine.data.atomic import atomic_file, make_folder, write_file
from cosmos_engine.data.certificate import VerificationReport, build_certificate, verify_dataset
from cosmos_engine.data.dataset import Dataset, DatasetEpisode
from cosmos_engine.data.dataset_writer import DatasetWriter
from cosmos_engine.data.episode import CameraPasses, Episode, InstanceLabel, Role
from cosmos_engine.data.episode_file import EpisodeHeader
from cosmos_engine.data.recording import Recording, RecordingWriter
from cosmos_engine.data.recording_report import RecordingReport, verify_recording

__all__ = [
    "CameraPasses",
    "Dataset",
    "DatasetEpisode",
    "DatasetWriter",
    "Episode",
    "EpisodeHeader",
    "InstanceLabel",
    "Recording",
    "RecordingReport",
    "RecordingWriter",
    "Role",
    "VerificationReport",
    "atomic_file",
    "build_certificate",
    "make_folder",
    "verify_dataset",
    "verify_recording",
    "write_file",
]
