"""How model packs and policies come to a terminal: releases by TUF, packs by hand, the switch and the way back.

A release goes through these files, and only through them:

- release.py     what a release is: one small JSON target that names the others;
- repository.py  the TUF client with our limits: the only importer of tuf;
- fetch.py       the uplink's side: HTTPS into the spool folder. Knows no pack, no picture, no key of the terminal's;
- install.py     the terminal's side: verifies again from the spool or a USB stick, stages, tests;
- selftest.py    what a pack must answer to the bundled pictures, in a process of its own;
- shelf.py       the packs that a terminal holds: which is in force, which on trial, below which release it never goes.
"""
