"""Pixels to numbers: the only room where LiteRT and OpenCV image processing live."""
