"""Evidence in, verdict out. Pure: no clock, no network, no state but what is passed in."""
