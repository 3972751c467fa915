"""The desktop simulator: person, camera, attacks, broker and reference carrier."""
