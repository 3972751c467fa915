"""Process 1: sees the camera and the keys, never the network."""
