"""Named sources of faces, each made into a folder of people on this machine."""
