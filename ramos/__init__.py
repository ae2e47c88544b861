"""RAMOS: an operating system that lives in RAM and keeps what its user changed."""
