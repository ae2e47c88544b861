"""Trees by the rules of overlayfs: walked, compared, stacked, merged, written as layers."""
