"""The web console at `/ui/`: files that npm builds from the folder `console/`, sent with a strict policy."""
