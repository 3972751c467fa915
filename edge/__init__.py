"""The firmware of the terminal: session rules, vision, evidence, drivers and the two processes."""

__version__ = "0.1.0"
