"""A parametric 3-D head: mesh, appearance, motion, render."""
