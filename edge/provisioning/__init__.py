"""Identity of the terminal: keys, certificates, enrolment."""
