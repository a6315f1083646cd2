"""An evaluation beside a baseline: what it is compared with, and the files that are left."""
