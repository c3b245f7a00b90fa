"""Run folders and the files in them: atomic, checksummed, resumable, relocatable."""

from geodistill.runs.cache import cache_root
from geodistill.runs.files import (
    atomic_write,
    file_digest,
    make_folder,
    scratch_folder,
    write_files,
)
from geodistill.runs.folder import Run
from geodistill.runs.layout import (
    is_unfinished,
    jsonable,
    output_paths,
    result,
    result_file,
)
from geodistill.runs.tensors import load_tensors, read_metadata, save_tensors

__all__ = [
    "Run",
    "atomic_write",
    "cache_root",
    "file_digest",
    "is_unfinished",
    "jsonable",
    "load_tensors",
    "make_folder",
    "output_paths",
    "read_metadata",
    "result",
    "result_file",
    "save_tensors",
    "scratch_folder",
    "write_files",
]
