"""Many sessions in virtual time, and what they say with intervals; one session is play.py's."""
