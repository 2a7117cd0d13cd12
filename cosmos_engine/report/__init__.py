"""HTML reports: recorded episodes, variants, success rates, provenance."""

from cosmos_engine.report.benchmark import Benchmark, read_benchmark
from cosmos_engine.report.content import (
    Figure,
    Provenance,
    RecordedDemo,
    Rejection,
    ReportInput,
    Selection,
    Variant,
    VariantGroup,
)
from cosmos_engine.report.outcome import Bound, MeasureValues, Outcome, read_outcome
from cosmos_engine.report.page import build_report, write_report
from cosmos_engine.report.sheet import contact_sheet
from cosmos_engine.report.video import encode_mp4, side_by_side

__all__ = [
    "Benchmark",
    "Bound",
    "Figure",
    "MeasureValues",
    "Outcome",
    "Provenance",
    "RecordedDemo",
    "Rejection",
    "ReportInput",
    "Selection",
    "Variant",
    "VariantGroup",
    "build_report",
    "contact_sheet",
    "encode_mp4",
    "read_benchmark",
    "read_outcome",
    "side_by_side",
    "write_report",
]
