"""Heads and decimals of columns that only the notebooks 00 to 04 show."""

from __future__ import annotations

from sm70lib.presentation.columns import Column

COLUMNS = {
    "rows": Column("Rows", 0),
    "bytes": Column("Bytes", 0),
    "items": Column("Items", 0),
    "facts": Column("Facts", 0),
    "tokens": Column("Tokens", 0),
    "targets": Column("Target tokens", 0),
    "kept": Column("Kept", 0),
    "right_pct": Column("Right (%)", 1),
    "position_pct": Column("Best position (%)", 1),
    "text_pct": Column("Best text (%)", 1),
    "rows_cut": Column("Rows cut", 0),
    "tokens_cut": Column("Tokens cut", 0),
    "with_answer": Column("With the answer", 0),
    "parameters": Column("Parameters", 0),
    "planned_mb": Column("Planned (MB)", 2),
    "measured_mb": Column("Measured (MB)", 2),
    "gpu": Column("GPU"),
    "memory_gb": Column("Memory (GB)", 0),
    "needed_gb": Column("Needed (GB)", 2),
    "hours_at_most": Column("Hours at most", 1),
    "kl_nats": Column("KL divergence (nats)", 4),
    "agreement_pct": Column("Same token likeliest (%)", 1),
    "range_pts": Column("Range (points)", 1),
    "left out": Column("Left out", 0),
    "source": Column("Source"),
    "share": Column("Share", 2),
}
