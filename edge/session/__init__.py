"""Pure rules of a session: standard library and numpy only; no pixels, no clock, no I/O."""
