"""Hardware, each behind a small protocol: camera, document portrait, board."""
