"""Records: what is known of a study, a trial and a confirmation, as frozen data that JSON holds.

A record is written as a file of the run that it belongs to, and read back as the same object: leaderboards,
comparisons, the registry and a study that goes on read records and nothing else.
"""

from __future__ import annotations

from img2brain.records.base import (
    CodeRecord,
    DatasetRecord,
    Estimate,
    PluginRecord,
    ProvenanceRecord,
    Record,
    RowsRecord,
    Summary,
    TiesRecord,
)
from img2brain.records.bundle import BundleRecord, BundleRowRecord
from img2brain.records.confirmation import Against, CeilingRecord, ConfirmationRecord, PartRecord, RegionRecord
from img2brain.records.look import LookRecord
from img2brain.records.study import MemberRecord, StudyRecord
from img2brain.records.trial import MetricRecord, NetworkRecord, TrialRecord

__all__ = [
    "Against",
    "BundleRecord",
    "BundleRowRecord",
    "CeilingRecord",
    "CodeRecord",
    "ConfirmationRecord",
    "DatasetRecord",
    "Estimate",
    "LookRecord",
    "MemberRecord",
    "MetricRecord",
    "NetworkRecord",
    "PartRecord",
    "PluginRecord",
    "ProvenanceRecord",
    "Record",
    "RegionRecord",
    "RowsRecord",
    "StudyRecord",
    "Summary",
    "TiesRecord",
    "TrialRecord",
]
