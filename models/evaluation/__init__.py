"""How good the pack is: ISO/IEC 19795 and 30107-3 figures."""
