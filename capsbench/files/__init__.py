"""The HDF5 file: made, read, checked, repaired, merged and packed."""
