"""The device under persist: which one it is, whether it is present, what it can take."""
