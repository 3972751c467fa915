"""Attack presentations and injections: prints, cut-outs, screens, masks, virtual cameras; no bona fide people here."""

from simulator.attacks.cutout import CutoutStage
from simulator.attacks.injection import RecordedStage, VirtualCamera
from simulator.attacks.mask import MaskStage
from simulator.attacks.paper import Print, PrintStage, draw_print, photograph, print_on_paper
from simulator.attacks.recording import Recording
from simulator.attacks.screen import Screen, ScreenStage, draw_screen

__all__ = [
    "CutoutStage",
    "MaskStage",
    "Print",
    "PrintStage",
    "RecordedStage",
    "Recording",
    "Screen",
    "ScreenStage",
    "VirtualCamera",
    "draw_print",
    "draw_screen",
    "photograph",
    "print_on_paper",
]
