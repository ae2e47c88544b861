"""Building a stick image: the bases, the disk, the pipeline."""
