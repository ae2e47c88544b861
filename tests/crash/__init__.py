"""The crash lab: a stick whose every write is logged, and the states a power cut could leave.

`device` serves a stick through FUSE and a loop device and logs what reaches it (`server` does the
serving), `log` reads the log, `states` lists what a power cut could leave, `replay` makes such a
disk, `check` brings it up as a boot would and judges it, `workloads` says what is cut short.
Invariant: the log holds writes and flushes in the order in which the device saw them.
"""
