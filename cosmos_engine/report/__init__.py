"""HTML reports: recorded episodes, variants, success rates, provenance."""

from cosmos_engine.report.benchmark import Benchmark, read_benchmark
from cosmos_engine.report.content import (
    Figure,
    Provenance,
    RecordedDemo,
    ReportInput,
    Variant,
    VariantGroup,
)
from cosmos_engine.report.page import build_report, write_report
from cosmos_engine.report.sheet import contact_sheet
from cosmos_engine.report.video import encode_mp4, side_by_side

__all__ = [
    "Benchmark",
    "Figure",
    "Provenance",
    "RecordedDemo",
    "ReportInput",
    "Variant",
    "VariantGroup",
    "build_report",
    "contact_sheet",
    "encode_mp4",
    "read_benchmark",
    "side_by_side",
    "write_report",
]
