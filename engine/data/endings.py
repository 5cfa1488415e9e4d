"""Endings of data files. Light: the window asks for files by them."""

from __future__ import annotations

ENDINGS = (".json", ".jsonl", ".ndjson", ".jsonlines", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".md")
PACKED = (".gz", ".gzip", ".zst", ".zstd")
"""Endings of compressed files, after the ending of what is in them."""
