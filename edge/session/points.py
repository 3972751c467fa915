"""The 138 face points that every landmark model is mapped to, by name; no model, no geometry.

The points are a subset of the 468-point face mesh topology; a pack's manifest says how its model's outputs map to them.
"Right" and "left" are the capture subject's own: the right eye is on the left of an unmirrored picture.
"""

from __future__ import annotations

POINT_COUNT = 138

RIGHT_EYE = slice(0, 16)  # from the outer corner along the upper lid to the inner corner (8), back along the lower lid
LEFT_EYE = slice(16, 32)  # the same, mirrored
RIGHT_BROW = slice(32, 37)
LEFT_BROW = slice(37, 42)
NOSE = slice(42, 54)
OUTER_LIP = slice(54, 74)  # from the right corner along the upper lip to the left corner (10), back along the lower lip
INNER_LIP = slice(74, 94)  # the same
OVAL = slice(94, 130)  # clockwise in the picture from the top of the forehead (0), chin at 18
CHEEKS = slice(130, 138)

NOSE_TIP = 47
RIGHT_MOUTH_CORNER = 54
LEFT_MOUTH_CORNER = 64

# (upper lid, lower lid) pairs of one eye, relative to the start of its slice
EYELID_PAIRS = ((2, 14), (3, 13), (4, 12), (5, 11), (6, 10))
EYE_CORNERS = (0, 8)
# (upper, lower) pairs of the inner lip, relative to the start of its slice
INNER_LIP_PAIRS = ((3, 17), (4, 16), (5, 15), (6, 14), (7, 13))
INNER_LIP_CORNERS = (0, 10)

# The same 138 points as indices into the 468-point mesh, for training and for foreign packs.
MESH_468 = (
    *(33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    *(263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
    *(70, 63, 105, 66, 107),
    *(300, 293, 334, 296, 336),
    *(168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 129, 358),
    *(61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146),
    *(78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95),
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
    *(50, 280, 205, 425, 117, 346, 123, 352),
)
