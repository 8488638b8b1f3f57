"""Convert a Parquet dataset of areas on a Dask cluster, here two processes of this machine.

    python examples/dask_convert.py AREAS.parquet OUT/ [--resume]

The column ``area`` holds areas that a Skylake-SP wrote; OUT gets the same rows with the areas in
Zen 4's compacted format. An area that cannot be converted becomes null, with the reason in the
column ``error``. Run it again with --resume where it was interrupted.
"""

from __future__ import annotations

import sys

from distributed import Client, LocalCluster

import xsaveschema as xs
from xsaveschema.many.arrow import Convert
from xsaveschema.many.dask import map_parquet


def main(source: str, target: str, *flags: str) -> None:
    """Convert the dataset ``source`` into the folder ``target``."""
    convert = Convert(
        model=xs.load_model("zen4"),
        source=xs.load_model("skylake-server"),
        format="compacted",
        drop=("bndregs", "bndcsr"),
        errors="null",
    )
    # LocalCluster is for one machine; give Client the address of a scheduler for many.
    with LocalCluster(n_workers=2, dashboard_address=None) as cluster, Client(cluster) as client:
        rows = map_parquet(client, convert, source, target, resume="--resume" in flags)
    print(f"{rows:,} rows")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except xs.XsaveError as error:
        sys.exit(f"dask_convert: error: {error}")
