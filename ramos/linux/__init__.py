"""What the kernel, the C library and other programs offer. No word of RAMOS's own is in here."""
