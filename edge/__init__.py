"""The firmware of the terminal: session rules, vision, evidence, drivers and the two processes."""
