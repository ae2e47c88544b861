"""Special packages on a running stick: kernels, firmware, boot loaders."""
