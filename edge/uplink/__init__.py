"""Process 2: sees the network, never a camera, a face or the result key."""
